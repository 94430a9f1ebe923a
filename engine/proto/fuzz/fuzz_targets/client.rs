#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| corewire_proto::fuzzing::client(data));
