//! A package that knows `corewire` by another name: every `::corewire` of the expansion becomes that name.

use proc_macro2::{Group, TokenStream, TokenTree};

/// Puts `name` in the place of each `::corewire`.
pub(crate) fn rename(tokens: TokenStream, name: &TokenStream) -> TokenStream {
    let mut renamed = Vec::<TokenTree>::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), rename(group.stream(), name));
                inner.set_span(group.span());
                renamed.push(inner.into());
            }
            TokenTree::Ident(ident) if ident == "corewire" && ends_in_colons(&renamed) => {
                renamed.truncate(renamed.len() - 2);
                renamed.extend(name.clone());
            }
            other => renamed.push(other),
        }
    }
    renamed.into_iter().collect()
}

/// Whether the tokens end in the `::` that begins an absolute path.
fn ends_in_colons(tokens: &[TokenTree]) -> bool {
    let is_colon =
        |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':');
    match tokens {
        [before @ .., one, two] if is_colon(one) && is_colon(two) => {
            match before {
                // A lifetime.
                [.., TokenTree::Punct(quote), TokenTree::Ident(_)] if quote.as_char() == '\'' => {
                    true
                }
                // Behind a name it goes on with a path instead.
                [.., TokenTree::Ident(ident)] => is_keyword(&ident.to_string()),
                _ => true,
            }
        }
        _ => false,
    }
}

/// Keywords before which no path ends.
fn is_keyword(word: &str) -> bool {
    ["as", "for", "in", "impl", "dyn", "mut", "return", "match", "use"].contains(&word)
}
