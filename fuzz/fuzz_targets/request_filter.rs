//! libFuzzer's entry to the target `request_filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::request_filter::target(data));
