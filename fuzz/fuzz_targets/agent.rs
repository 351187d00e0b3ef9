#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::agent(std::time::Instant::now(), data));
