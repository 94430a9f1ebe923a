//! What the author of a wrong trait reads: each program in `ui/` against the `.stderr` file beside it.
//!
//! After a wanted change: `TRYBUILD=overwrite cargo test -p corewire --test ui`, then read the difference.

#[test]
fn faults_are_reported_at_their_tokens() {
    let programs = trybuild::TestCases::new();
    programs.compile_fail("tests/ui/*.rs");
}
