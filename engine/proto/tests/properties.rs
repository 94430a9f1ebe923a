//! The fuzz bodies on random bytes.

use corewire_proto::fuzzing;
use proptest::prelude::*;

/// As many bytes as a few hundred commands take.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..2_000)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(
            proptest::test_runner::FileFailurePersistence::Direct(concat!(
                env!("CARGO_MANIFEST_DIR"), "/tests/properties.regressions"
            )),
        )),
        ..ProptestConfig::default()
    })]

    /// REQ-33, REQ-35, REQ-52, REQ-54, REQ-63, REQ-71.
    #[test]
    fn two_connections_over_a_line_that_may_be_cut(data in bytes()) {
        fuzzing::pair(&data);
    }

    #[test]
    fn a_server_that_anybody_talks_to(data in bytes()) {
        fuzzing::server(&data);
    }

    #[test]
    fn a_client_whose_server_says_anything(data in bytes()) {
        fuzzing::client(&data);
    }
}
