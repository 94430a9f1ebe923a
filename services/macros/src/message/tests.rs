//! The macro's errors, by their texts.

use super::{check, parse};
use crate::errors::Errors;
use quote::quote;

fn faults(options: proc_macro2::TokenStream, item: proc_macro2::TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    if let Some(message) = parse::message(options, item, &mut errors) {
        check::message(&message, &mut errors);
    }
    errors.texts()
}

#[test]
fn a_message_of_every_shape_has_no_fault() {
    let none = faults(
        quote!(name = "a.v1.Zoo", reserved(3, 5..=7), crate = cw),
        quote! {
            struct Zoo<T> {
                #[id(1)] a: u64,
                #[id(2)] b: Option<T>,
                #[id(4)] c: Vec<Vec<u8>>,
                #[id(8)] d: ::std::collections::HashMap<String, Bytes>,
                #[id(9, name = "f")] e: Option<Box<Zoo<T>>>,
            }
        },
    );
    assert_eq!(none, Vec::<String>::new());
}

#[test]
fn numbers_are_there_once_and_allowed() {
    let found = faults(
        quote!(reserved(3)),
        quote! {
            struct Wrong {
                a: u64,
                #[id(1)] b: u64,
                #[id(1)] c: u64,
                #[id(3)] d: u64,
                #[id(0)] e: u64,
                #[id(19500)] f: u64,
                #[id(536870912)] g: u64,
                #[id("x")] h: u64,
            }
        },
    );
    let wanted = [
        "expected integer literal",
        "the field `a` has no number",
        "the number 1 is that of `b`",
        "the number 3 is reserved",
        "between 1 and 536870911",
        "19000 to 19999",
        "between 1 and 536870911",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.contains(wanted), "{found:?} for {wanted:?}");
    }
}

#[test]
fn types_without_a_form_are_refused_with_advice() {
    for (ty, advice) in [
        (quote!(usize), "use `u64`"),
        (quote!(Option<i128>), "no such number"),
        (quote!(char), "use `String` or `u32`"),
        (quote!(&'static str), "owns what it holds"),
        (quote!((u8, u8)), "a tuple has no numbers"),
        (quote!([u8; 4]), "use a `Vec`"),
        (quote!(Vec<Vec<u32>>), "a list in a list"),
        (quote!(Option<Vec<u32>>), "a list in a list"),
        (quote!(Vec<Option<u32>>), "inside of another type"),
        (quote!(HashMap<f64, u32>), "the keys of a map"),
        (quote!(HashMap<String, Vec<u32>>), "a list in a list"),
        (quote!(Box<usize>), "use `u64`"),
    ] {
        let text = ty.to_string();
        let found = faults(quote!(), quote!(struct Wrong { #[id(1)] a: #ty }));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(advice), "{text}: {found:?}");
    }
}

#[test]
fn enums_have_their_rules() {
    let found = faults(
        quote!(),
        quote!(
            enum Color {
                #[id(1)]
                Red,
                #[id(2)]
                Green,
            }
        ),
    );
    assert!(found[0].contains("`#[id(0)]`"), "{found:?}");
    let found = faults(
        quote!(),
        quote!(
            enum Color {
                #[id(0)]
                Red,
                #[unknown]
                Other(u8),
            }
        ),
    );
    assert!(found[0].contains("`#[unknown] Unknown(i32)`"), "{found:?}");
    let found = faults(
        quote!(),
        quote!(
            enum Shape {
                #[id(1)]
                A { a: u8 },
                #[id(2)]
                B(u8),
            }
        ),
    );
    assert!(found[0].contains("make what it holds a message"), "{found:?}");
    let found = faults(
        quote!(),
        quote!(
            enum Shape {
                #[id(1)]
                A(Vec<u32>),
            }
        ),
    );
    assert!(found[0].contains("a variant holds one value"), "{found:?}");
}

#[test]
fn what_is_no_data_is_refused() {
    assert!(
        faults(
            quote!(),
            quote!(
                trait Wrong {}
            )
        )[0]
        .contains("put it on a `struct`")
    );
    assert!(
        faults(
            quote!(),
            quote!(
                struct Wrong(u8);
            )
        )[0]
        .contains("have names")
    );
    assert!(
        faults(
            quote!(named = "x"),
            quote!(
                struct Wrong {}
            )
        )[0]
        .contains("the options of a message")
    );
    assert!(
        faults(
            quote!(name = "1x"),
            quote!(
                struct Wrong {}
            )
        )[0]
        .contains("a message's name")
    );
}
