//! Makes tonic's server and client for the echo service. The message is written by hand (see `src/bin/peer_tonic.rs`), so
//! that no protobuf compiler is needed.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let echo = Method::builder()
        .name("echo")
        .route_name("Echo")
        .input_type("crate::Body")
        .output_type("crate::Body")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let service = Service::builder().name("Echo").package("bench").method(echo).build();
    Builder::new().compile(&[service]);
}
