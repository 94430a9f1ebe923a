#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| corewire_codec::fuzzing::message_speedy(data));
