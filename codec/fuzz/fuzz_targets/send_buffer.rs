#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| corewire_codec::fuzzing::send_buffer(data));
