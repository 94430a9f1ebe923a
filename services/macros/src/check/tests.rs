//! Which declarations pass, and the errors for those that do not.

use super::{Codec, service};
use crate::errors::Errors;
use crate::parse;
use proc_macro2::TokenStream;
use quote::quote;

/// The errors for a trait with these items.
fn complaints(items: TokenStream) -> Vec<String> {
    complaints_of(TokenStream::new(), quote!(trait Collide { #items }))
}

fn complaints_of(options: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let declaration = parse::declaration(options, item, &mut errors).expect("it is a trait");
    service(&declaration, &mut errors);
    errors.texts()
}

#[track_caller]
fn assert_refused(items: TokenStream, parts: &[&str]) {
    let complaints = complaints(items);
    assert_eq!(complaints.len(), parts.len(), "{complaints:#?}");
    for (complaint, part) in complaints.iter().zip(parts) {
        assert!(complaint.contains(part), "{complaint:?} does not say {part:?}");
    }
}

#[test]
fn a_method_is_read_with_its_context_arguments_and_codecs() {
    let mut errors = Errors::default();
    let item = quote! {
        /// Keeps values.
        trait Store {
            /// Reads.
            async fn read(&self, _: &corewire::Context, r#type: u8, key: ::std::string::String)
                -> std::result::Result<Option<Bytes>, corewire::Status>;
            #[corewire(name = "echo")]
            async fn say_again(&self, body: bytes::Bytes) -> Result<bytes::Bytes, Status>;
            async fn nothing(&self) -> Result<(), Status>;
        }
    };
    let declaration =
        parse::declaration(quote!(name = "kv.Store"), item, &mut errors).expect("it is a trait");
    let service = service(&declaration, &mut errors).expect("it can be a service");
    assert_eq!(errors.texts(), [""; 0]);
    assert_eq!(service.wire_name, "kv.Store");
    assert_eq!(service.docs, "Keeps values.");
    let [read, echo, nothing] = &service.methods[..] else {
        panic!("three methods were declared");
    };

    assert!(read.context.is_some());
    let names = read.arguments.iter().map(|it| it.ident.to_string());
    assert_eq!(names.collect::<Vec<_>>(), ["r#type", "key"]);
    assert_eq!(read.docs, "Reads.");
    assert_eq!((read.request_codec, read.reply_codec()), (Codec::Speedy, Codec::Speedy));

    assert_eq!(echo.wire_name, "echo");
    assert!(echo.context.is_none());
    assert_eq!((echo.request_codec, echo.reply_codec()), (Codec::Raw, Codec::Raw));

    assert!(nothing.arguments.is_empty());
    assert_eq!((nothing.request_codec, nothing.reply_codec()), (Codec::Speedy, Codec::Speedy));
}

#[test]
fn the_context_does_not_count_as_an_argument() {
    assert_refused(
        quote!(
            async fn a(&self, context: &Context, body: Bytes) -> Result<(), Status>;
        ),
        &[],
    );
    assert_refused(
        quote! {
            async fn a(&self, body: Bytes, more: u8) -> Result<(), Status>;
            async fn b(&self, key: u8, context: &Context) -> Result<(), Status>;
            async fn c(&self, context: &mut Context) -> Result<(), Status>;
        },
        &["use `Vec<u8>` next to other arguments", "must be the first parameter", "read-only"],
    );
}

#[test]
fn every_fault_of_a_trait_is_reported_at_once() {
    let complaints = complaints_of(
        quote!(nmae = "x"),
        quote! {
            unsafe trait Store<T> where T: Copy {
                type Key;
                const LIMIT: usize;
                fn a(&self) -> Result<(), Status>;
                async fn b(&mut self);
            }
        },
    );
    let expected = [
        "unknown option",
        "`unsafe` trait",
        "cannot be generic",
        "`where` clause",
        "name the type itself",
        "move the constant",
        "write `async fn a`",
        "take `&self`",
        "`b` must return",
    ];
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    for (complaint, part) in complaints.iter().zip(expected) {
        assert!(complaint.contains(part), "{complaint:?} does not say {part:?}");
    }
}

#[test]
fn return_types_must_spell_out_the_result() {
    assert_refused(
        quote! {
            async fn a(&self) -> Result<u8>;
            async fn b(&self) -> Option<u8>;
            async fn c(&self) -> Result<u8, std::io::Error>;
            async fn d(&self) -> Result<u8, Status, u8>;
        },
        &["spelled out", "spelled out", "is `Status`", "spelled out"],
    );
}

#[test]
fn a_stream_stands_alone_and_there_is_one_each_way() {
    assert_refused(
        quote! {
            async fn fine(&self, a: u8, parts: corewire::Streaming<Bytes>) -> Result<Streaming<u8>, Status>;
            async fn own(&self, mode: Streaming) -> Result<Streaming, Status>;
            async fn a(&self, all: Vec<Streaming<u8>>) -> Result<Option<Streaming<u8>>, Status>;
            async fn b(&self) -> Result<Streaming<Streaming<u8>>, Status>;
            async fn c(&self, one: Streaming<u8>, two: Streaming<u8>) -> Result<(), Status>;
            async fn d(&self, keys: Streaming<&str>) -> Result<(Streaming<u8>, u8), Status>;
        },
        &["alone", "alone", "alone", "at most", "`String`", "alone"],
    );
}

#[test]
fn a_one_way_method_has_no_outcome() {
    assert_refused(
        quote! {
            #[one_way]
            async fn fine(&self, context: &Context, key: String);
            #[one_way]
            async fn unit(&self) -> ();
            #[one_way]
            async fn a(&self) -> Result<(), Status>;
            #[one_way]
            async fn b(&self, parts: Streaming<u8>);
            #[one_way(lossy)]
            async fn c(&self);
        },
        &["returns nothing", "takes no stream", "takes no options"],
    );
}

#[test]
fn a_blocking_method_has_nothing_of_its_shard() {
    assert_refused(
        quote! {
            #[blocking]
            fn fine(&self, key: Bytes) -> Result<(), Status>;
            #[blocking]
            fn alone(key: u8) -> Result<(), Status>;
            #[blocking]
            #[one_way]
            fn note(&self, key: u8);
            #[blocking]
            async fn a(&self) -> Result<(), Status>;
            #[blocking]
            fn b(&self, context: &Context, parts: Streaming<u8>) -> Result<Streaming<u8>, Status>;
            #[blocking(4)]
            fn c(&mut self) -> u8;
        },
        &[
            "write `fn a`",
            "context",
            "stream",
            "stream",
            "take `&self`",
            "spelled out",
            "no options",
        ],
    );
}

#[test]
fn only_owned_types_travel() {
    assert_refused(
        quote! {
            async fn a(&self, key: &str, keys: Vec<&[u16]>, own: Self) -> Result<Cow<'_, str>, Status>;
            async fn b(&self, key: impl Display, fixed: Cow<'static, str>) -> Result<Self::Value, Status>;
        },
        &["`String`", "`Vec<u16>`", "`Self`", "borrowed", "`impl Trait`", "`Self`"],
    );
}

#[test]
fn receivers_are_plain_references() {
    assert_refused(
        quote! {
            async fn a(self) -> Result<(), Status>;
            async fn b(&mut self) -> Result<(), Status>;
            async fn c(self: &Self) -> Result<(), Status>;
            async fn d(key: u8) -> Result<(), Status>;
        },
        &["take `&self`", "take `&self`", "take `&self`", "`d` must take `&self`"],
    );
}

#[test]
fn equal_names_and_colliding_ids_are_refused() {
    assert_refused(
        quote! {
            async fn get(&self) -> Result<(), Status>;
            #[corewire(name = "get")]
            async fn fetch(&self) -> Result<(), Status>;
        },
        &["already taken by the method `get`"],
    );
    // Two names whose FNV-1a ids under `Collide` are the same, found by trying word triples.
    assert_refused(
        quote! {
            async fn stop_prefix_metric(&self) -> Result<(), Status>;
            async fn sum_find_first(&self) -> Result<(), Status>;
        },
        &["0x455fd76c"],
    );
}

#[test]
fn names_that_a_client_has_already_are_refused() {
    for name in super::CLIENT_METHODS {
        let name = syn::Ident::new(name, proc_macro2::Span::call_site());
        assert_refused(quote!(async fn #name(&self) -> Result<(), Status>;), &["rename this one"]);
    }
}
