#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| corewire_codec::fuzzing::cut(data));
