//! What seeds have found stays found: each bug as the few calls that show it.

use corewire_sim::{Case, Shells, run_case};

#[test]
fn every_case_that_is_written_down_holds() {
    for case in Case::ALL {
        for shells in Shells::ALL {
            let report = run_case(case, shells, None);
            assert_eq!(report.violation, None, "{case:?} {shells:?}, last: {:#?}", report.last);
            assert!(report.notes > 20, "{case:?} does something: {} events", report.notes);
        }
    }
}
