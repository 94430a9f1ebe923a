//! The whole expansion of one service, laid out and compared with a file that a reader can study.
//!
//! After a wanted change: `UPDATE=1 cargo test -p corewire-macros`, then read the difference.

use crate::expand_service;
use quote::quote;
use std::path::Path;

fn laid_out(options: proc_macro2::TokenStream, item: proc_macro2::TokenStream) -> String {
    let tokens = expand_service(options, item);
    let file = syn::parse2::<syn::File>(tokens).expect("the expansion is a sequence of items");
    prettyplease::unparse(&file)
}

#[test]
fn expansion_is_the_committed_one() {
    let expansion = laid_out(
        quote!(name = "kv.KeyValue"),
        quote! {
            /// Keeps values under keys.
            pub trait KeyValue {
                /// The value under `key`.
                #[corewire(key = "key")]
                async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Status>;
                #[corewire(key = "key")]
                async fn put(&self, context: &Context, key: String, value: Vec<u8>) -> Result<(), Status>;
                #[corewire(name = "echo", key = "payload")]
                async fn say_again(&self, payload: Bytes) -> Result<Bytes, Status>;
                async fn count(&self) -> Result<u64, Status>;
                #[one_way]
                async fn touch(&self, key: String);
                async fn watch(&self, prefix: String) -> Result<Streaming<Vec<u8>>, Status>;
                #[corewire(key = "name")]
                async fn load(&self, size: u64, name: String, parts: Streaming<Bytes>) -> Result<u64, Status>;
                async fn sync(&self, edits: Streaming<u64>) -> Result<Streaming<Bytes>, Status>;
            }
        },
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/key_value.rs");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expansion).expect("the snapshot can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("the snapshot can be read");
    let first_difference = expansion.lines().zip(committed.lines());
    let first_difference = first_difference.enumerate().find(|(_, (new, old))| new != old);
    assert!(
        expansion == committed,
        "the expansion differs from {}, first at {first_difference:#?}; renew it with UPDATE=1 if that is wanted",
        path.display()
    );
}

/// Only a blocking method that takes `&self` needs the service on another thread.
#[test]
fn a_service_is_shared_with_threads_only_if_they_need_it() {
    let alone = laid_out(
        quote!(),
        quote! {
            trait Store {
                #[blocking]
                fn double(number: u8) -> Result<u8, Status>;
                async fn get(&self) -> Result<u8, Status>;
            }
        },
    );
    assert!(alone.contains("trait Store: 'static {"), "{alone}");
    assert!(alone.contains("fn from_rc(") && !alone.contains("Arc"), "{alone}");
    assert!(alone.contains("move || {") && alone.contains("async move {"), "{alone}");
    let shared = laid_out(
        quote!(),
        quote! {
            trait Store {
                #[blocking]
                fn compact(&self, body: Bytes) -> Result<u8, Status>;
                async fn get(&self) -> Result<u8, Status>;
            }
        },
    );
    assert!(shared.contains("'static + ::core::marker::Send + ::core::marker::Sync"), "{shared}");
    assert!(shared.contains("fn from_arc(") && !shared.contains("fn from_rc("), "{shared}");
    assert!(shared.contains("call.body_to_keep()"), "{shared}");
    assert!(shared.contains("&**service)"), "{shared}");
}

#[test]
fn the_type_parameter_yields_to_the_authors_types() {
    let expansion = laid_out(
        quote!(),
        quote! {
            trait Store {
                async fn get(&self, key: T) -> Result<Vec<T0>, Status>;
            }
        },
    );
    assert!(expansion.contains("struct StoreServer<T1>"), "{expansion}");
}

#[test]
fn conditions_of_the_trait_hold_for_all_that_is_made_from_it() {
    let expansion = laid_out(
        quote!(),
        quote! {
            #[cfg(unix)]
            trait Store {
                async fn get(&self) -> Result<(), Status>;
            }
        },
    );
    let file = syn::parse_file(&expansion).expect("it was laid out from a file");
    for item in &file.items {
        let attributes = match item {
            syn::Item::Trait(it) => &it.attrs,
            syn::Item::Struct(it) => &it.attrs,
            syn::Item::Impl(it) => &it.attrs,
            _ => panic!("the expansion has traits, structs and impls only"),
        };
        assert!(attributes.iter().any(|it| it.path().is_ident("cfg")));
    }
}

#[test]
fn a_faulty_method_leaves_the_others_usable() {
    let expansion = laid_out(
        quote!(),
        quote! {
            trait Store {
                async fn get(&self, key: &str) -> Result<(), Status>;
                async fn put(&self, mut key: String) -> Result<(), Status>;
                async fn count(&self) -> Result<u64, Status>;
            }
        },
    );
    assert_eq!(expansion.matches("compile_error").count(), 2, "{expansion}");
    assert_eq!(expansion.matches("fn count(").count(), 2, "in the trait and in the client");
    assert!(!expansion.contains("mut key"), "rustc would complain a second time");
    assert!(!expansion.contains("\"get\""), "a method without a server has no description");
}

#[test]
fn a_type_that_merely_shares_its_name_with_streams_is_an_ordinary_one() {
    let expansion = laid_out(
        quote!(),
        quote! {
            trait Player {
                async fn mode(&self) -> Result<Streaming, Status>;
                async fn watch(&self) -> Result<Streaming<u8>, Status>;
            }
        },
    );
    assert!(expansion.contains("async fn mode(&self) -> Result<Streaming, Status>;"));
    // A stream has a method of the client where there is a channel that carries it.
    let watch = 1 + usize::from(cfg!(feature = "shard"));
    assert_eq!(expansion.matches("fn watch(").count(), watch, "{expansion}");
    assert_eq!(expansion.matches("server_stream::<").count(), watch - 1, "{expansion}");
    assert_eq!(expansion.matches("fn mode(").count(), 2, "{expansion}");
}

#[test]
fn a_renamed_dependency_is_called_by_its_name_everywhere() {
    let expansion = laid_out(
        quote!(crate = my::cw),
        quote! {
            trait Store {
                async fn get(&self, context: &Context, key: u8) -> Result<Streaming<u8>, Status>;
                async fn put(&self, key: u8, value: Vec<u8>) -> Result<(), Status>;
                async fn raw(&self, body: Bytes) -> Result<Bytes, Status>;
                #[one_way]
                async fn touch(&self, key: u8);
                async fn load(&self, name: String, parts: Streaming<Bytes>) -> Result<u64, Status>;
                async fn sync(&self, edits: Streaming<u64>) -> Result<Streaming<Bytes>, Status>;
            }
        },
    );
    let code = expansion.lines().filter(|line| !line.trim().starts_with("///"));
    for line in code {
        assert!(!line.contains("::corewire") && !line.contains("corewire::"), "{line}");
    }
    assert!(expansion.contains("my::cw::MethodDescription"), "{expansion}");
}
