#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::dhcp6(std::time::Instant::now(), data));
