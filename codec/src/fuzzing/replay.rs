//! The committed corpora, run again by plain tests.

use std::collections::BTreeSet;
use std::path::Path;

use super::Target;

/// Runs every target on each file of its folder in `fuzz/corpus`: seeds, and inputs that once found a
/// bug. `krate` is the folder of the crate whose `fuzz` it is.
pub fn replay(krate: &str, targets: &[(&str, Target)]) {
    let corpus = Path::new(krate).join("fuzz/corpus");
    for (target, run) in targets {
        let folder = corpus.join(target);
        let seeds = names(&folder);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for seed in seeds {
            let data = std::fs::read(folder.join(&seed)).unwrap();
            // A panic alone does not say which seed it was.
            let held = std::panic::catch_unwind(|| run(&data)).is_ok();
            assert!(held, "{target}/{seed}");
        }
    }
}

/// Asserts that bodies, the files of the fuzz targets, and the folders of the corpus are the same set:
/// a body without a target would never be explored, a corpus without a body never replayed.
pub fn assert_same_set(krate: &str, targets: &[(&str, Target)]) {
    let fuzz = Path::new(krate).join("fuzz");
    let bodies: BTreeSet<String> = targets.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(bodies, names(&fuzz.join("corpus")));
    let files = names(&fuzz.join("fuzz_targets"));
    assert_eq!(files, bodies.iter().map(|name| format!("{name}.rs")).collect());
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
