#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::dhcp4(std::time::Instant::now(), data));
