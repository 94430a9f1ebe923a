//! `#[corewire::message]`: what a struct or an enum needs to be a message in every codec.
//!
//! `parse` reads the item into plain structs, `shape` says what a field's type means, `check` holds the rules; then
//! `structs`, `enums` and `one_of` write the code.

mod check;
mod common;
mod enums;
mod names;
mod one_of;
mod parse;
mod shape;
mod structs;

use crate::errors::Errors;
use crate::renamed;
use parse::Body;
use proc_macro2::TokenStream;
use quote::ToTokens;

/// The macro without the compiler's types, so that tests can call it.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Some(message) = parse::message(options, item.clone(), &mut errors) else {
        let mut tokens = errors.into_tokens();
        item.to_tokens(&mut tokens);
        return tokens;
    };
    check::message(&message, &mut errors);
    let mut tokens = message.item.to_token_stream();
    if errors.count() == 0 {
        let code = match &message.body {
            Body::Struct(fields) => structs::expand(&message, fields),
            Body::Enum(variants) if check::has_data(variants) => one_of::expand(&message, variants),
            Body::Enum(variants) => enums::expand(&message, variants),
        };
        code.to_tokens(&mut tokens);
    }
    if let Some(corewire) = &message.corewire {
        tokens = renamed::rename(tokens, &corewire.to_token_stream());
    }
    errors.into_tokens().to_tokens(&mut tokens);
    tokens
}

#[cfg(test)]
mod tests;
