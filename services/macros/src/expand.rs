//! Writes the trait, its server, its client and its description.
//!
//! Hygiene: every identifier that is ours carries `Span::mixed_site()`, so that our locals and the author's arguments
//! never meet, and every path is absolute, so that nothing in the author's scope can take its place.

mod client;
mod parts;
mod server;

pub(crate) use self::parts::site_of;

use self::parts::Expansion;
use crate::check::Service;
use crate::parse::{Declaration, MethodDeclaration};
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::spanned::Spanned;
use syn::{FnArg, Pat, TypeParamBound, parse_quote, parse_quote_spanned};

/// Everything the macro makes of a trait that can be a service.
pub(crate) fn service(declaration: &Declaration, service: &Service<'_>) -> TokenStream {
    let ident = &declaration.item.ident;
    let expansion = Expansion {
        declaration,
        service,
        server: format_ident!("{}Server", ident),
        client: format_ident!("{}Client", ident),
        parameter: unused_parameter(declaration, "T"),
        channel: unused_parameter(declaration, "C"),
        conditions: declaration.item.attrs.iter().filter(|it| it.path().is_ident("cfg")).collect(),
    };
    let mut tokens = service_trait(declaration);
    if cfg!(feature = "shard") {
        tokens.extend(server::tokens(&expansion));
    }
    tokens.extend(client::tokens(&expansion));
    tokens
}

/// The trait as written, without the macro's own attributes.
///
/// It is written even when the declaration has faults, so that they do not cause a further error at each use of it.
pub(crate) fn service_trait(declaration: &Declaration) -> TokenStream {
    let mut item = declaration.item.clone();
    item.attrs.push(parse_quote! {
        #[allow(
            async_fn_in_trait,
            dead_code,
            reason = "calls stay on their shard, so futures need not be Send; a program may use one side only"
        )]
    });
    if declaration.methods.iter().any(MethodDeclaration::is_blocking) {
        item.attrs.push(parse_quote! {
            #[allow(clippy::missing_errors_doc, reason = "any call can fail on its way; async methods need not say so either")]
        });
    }
    let is_static = |bound: &TypeParamBound| matches!(bound, TypeParamBound::Lifetime(it) if it.ident == "static");
    if !item.supertraits.iter().any(is_static) {
        // A call's future holds its service for as long as the call takes.
        item.colon_token.get_or_insert_default();
        item.supertraits.push(parse_quote!('static));
    }
    if let Some(attribute) = declaration.shares_service() {
        // Where rustc says why an implementation cannot be shared.
        let site = site_of(attribute);
        item.colon_token.get_or_insert_default();
        item.supertraits.push(parse_quote_spanned!(site=> ::core::marker::Send));
        item.supertraits.push(parse_quote_spanned!(site=> ::core::marker::Sync));
    }
    item.items.extend(declaration.others.iter().cloned());
    item.items.extend(declaration.methods.iter().map(plain_method));
    item.into_token_stream()
}

/// The method with plain names for its arguments, which is all that a trait may have; a pattern has been reported.
fn plain_method(method: &MethodDeclaration) -> syn::TraitItem {
    let mut item = method.item.clone();
    for input in &mut item.sig.inputs {
        if let FnArg::Typed(typed) = input {
            let span = typed.pat.span();
            *typed.pat = match &*typed.pat {
                Pat::Ident(it) => {
                    let ident = &it.ident;
                    parse_quote!(#ident)
                }
                _ => Pat::Wild(syn::PatWild {
                    attrs: Vec::new(),
                    underscore_token: syn::Token![_](span),
                }),
            };
            typed.attrs.clear();
        }
    }
    item.into()
}

/// `T`, or the first of `T0`, `T1`, … when the trait itself mentions a `T`.
fn unused_parameter(declaration: &Declaration, wanted: &str) -> Ident {
    let mentioned = |name: &str| {
        mentions(declaration.item.ident.to_token_stream(), name)
            || declaration
                .methods
                .iter()
                .any(|method| mentions(method.item.sig.to_token_stream(), name))
    };
    let mut name = wanted.to_owned();
    let mut next = 0_u32;
    while mentioned(&name) {
        name = format!("{wanted}{next}");
        next += 1;
    }
    Ident::new(&name, Span::mixed_site())
}

fn mentions(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        _ => false,
    })
}

#[cfg(test)]
mod tests;
