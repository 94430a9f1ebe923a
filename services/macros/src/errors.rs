//! All errors in one declaration, so that its author sees them in one build.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// Collects errors; the macro goes on after each of them as far as it can.
#[derive(Default)]
pub(crate) struct Errors {
    combined: Option<syn::Error>,
}

impl Errors {
    /// Adds an error that underlines all of `tokens`.
    pub(crate) fn on(&mut self, tokens: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    /// Adds an error that underlines `span`.
    pub(crate) fn at(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push(syn::Error::new(span, message));
    }

    /// Adds an error that another parser reported.
    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.combined {
            Some(combined) => combined.combine(error),
            None => self.combined = Some(error),
        }
    }

    /// How many errors there are, so that a caller can tell whether a step added any.
    pub(crate) fn count(&self) -> usize {
        self.combined.as_ref().map_or(0, |combined| combined.into_iter().count())
    }

    /// One `compile_error!` per error; nothing when there are none.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.combined.map_or_else(TokenStream::new, |combined| combined.to_compile_error())
    }

    /// The texts, in the order in which they were added.
    #[cfg(test)]
    pub(crate) fn texts(self) -> Vec<String> {
        self.combined.into_iter().flatten().map(|error| error.to_string()).collect()
    }
}
