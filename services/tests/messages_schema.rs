//! Schemas and fingerprints: what changes them, and what does not.
#![allow(dead_code, reason = "fields that are never read")]

#[path = "messages/zoo.rs"]
mod zoo;

use corewire::message::{Schema, Shape, Type, Value};
use zoo::{Leaf, Page, Tree, Zoo};

fn fingerprint<T: Value>() -> u64 {
    Schema::of::<T>().fingerprint()
}

/// A module for each version of a message that has the same name.
macro_rules! versions {
    ($($version:ident { $($field:tt)* })*) => { $(
        mod $version {
            #[corewire::message(name = "v.Note")]
            pub(super) struct Note { $($field)* }
        }
    )* };
}

versions! {
    first { #[id(1)] title: String, #[id(2)] count: u32 }
    renamed { #[id(1)] name: String, #[id(2)] number: u32 }
    swapped { #[id(2)] count: u32, #[id(1)] title: String }
    renumbered { #[id(1)] title: String, #[id(3)] count: u32 }
    wider { #[id(1)] title: String, #[id(2)] count: u64 }
    longer { #[id(1)] title: String, #[id(2)] count: u32, #[id(3)] more: bool }
    optional { #[id(1)] title: String, #[id(2)] count: Option<u32> }
    list { #[id(1)] title: String, #[id(2)] count: Vec<u32> }
}

#[test]
fn a_fingerprint_tells_what_speedy_cannot_bear_and_nothing_else() {
    let first = fingerprint::<first::Note>();
    assert_eq!(first, fingerprint::<renamed::Note>());
    let others = [
        fingerprint::<swapped::Note>(),
        fingerprint::<renumbered::Note>(),
        fingerprint::<wider::Note>(),
        fingerprint::<longer::Note>(),
        fingerprint::<optional::Note>(),
        fingerprint::<list::Note>(),
        fingerprint::<u32>(),
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(*other, first, "{at}");
        assert!(!others[..at].contains(other), "{at}");
    }
}

/// Written down once: a fingerprint that another build computes otherwise would make equal services differ.
#[test]
fn fingerprints_are_the_same_for_ever() {
    // From another implementation, over the words 17 0, 1 2, 1 0 12 0, 2 0 4 0.
    assert_eq!(fingerprint::<first::Note>(), 0x5e061ef8c8ec62bc);
    assert_eq!(fingerprint::<Zoo>(), 0x17c1da9b7f0d872a);
}

#[test]
fn a_change_deep_inside_changes_the_fingerprint() {
    assert_ne!(fingerprint::<Page<first::Note>>(), fingerprint::<Page<wider::Note>>());
    assert_eq!(fingerprint::<Page<first::Note>>(), fingerprint::<Page<renamed::Note>>());
}

#[test]
fn a_schema_has_each_type_once_and_holds_what_holds_itself() {
    let schema = Schema::of::<Zoo>();
    assert_eq!(schema.root(), Type::Message(0));
    let names: Vec<_> = schema.messages().iter().map(|it| it.name.as_str()).collect();
    let wanted =
        ["zoo.v1.Zoo", "zoo.v1.Leaf", "zoo.v1.Animal", "zoo.v1.Tree", "zoo.v1.Page_zoo_v1_Leaf"];
    assert_eq!(names, wanted);
    assert_eq!(schema.messages()[0].reserved, [(90, 90), (95, 99)]);
    let tree = Schema::of::<Tree>();
    let tree = &tree.messages()[0];
    let shapes: Vec<_> =
        tree.fields.iter().map(|it| (it.number, it.name, it.shape, it.ty)).collect();
    let wanted = [
        (1, "value", Shape::Single, Type::I32),
        (2, "children", Shape::List, Type::Message(0)),
        (3, "best", Shape::Optional, Type::Message(0)),
    ];
    assert_eq!(shapes, wanted);
    let by_flag = &schema.messages()[0].fields[23];
    assert_eq!((by_flag.json_name, by_flag.shape), ("byFlag", Shape::Map(Type::Bool)));
    let color = &schema.enums()[0];
    assert_eq!(color.values, [(0, "COLOR_WHITE"), (1, "COLOR_YELLOW"), (5, "COLOR_LIGHT_RED")]);
    assert!(color.keeps_unknown);
}

#[test]
fn a_descriptor_is_of_one_package_and_has_each_name_once() {
    #[corewire::message(name = "other.Both")]
    struct Both {
        #[id(1)]
        leaf: Leaf,
    }
    let error = Schema::of::<Both>().file_descriptor("both.proto").expect_err("two packages");
    assert!(error.to_string().contains("`other` and `zoo.v1`"), "{error}");

    #[corewire::message(name = "v.Twice")]
    struct Twice {
        #[id(1)]
        one: first::Note,
        #[id(2)]
        two: renamed::Note,
    }
    let error = Schema::of::<Twice>().file_descriptor("twice.proto").expect_err("one name twice");
    assert!(error.to_string().contains("two types have the name `v.Note`"), "{error}");
    let _ = (Both { leaf: Leaf { value: 1 } }.leaf, |twice: Twice| (twice.one, twice.two));
}
