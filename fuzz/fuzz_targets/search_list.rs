#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::search_list(std::time::Instant::now(), data));
