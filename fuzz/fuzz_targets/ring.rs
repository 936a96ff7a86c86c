//! libFuzzer's entry to the target `ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::ring::target(data));
