//! libFuzzer's entry to the target `snooping`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::snooping::target(data));
