#![no_main]

mod allocator;

libfuzzer_sys::fuzz_target!(|data: &[u8]| trunkline_fuzz::peers(data));
