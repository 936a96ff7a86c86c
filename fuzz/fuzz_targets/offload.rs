//! libFuzzer's entry to the target `offload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::offload::target(data));
