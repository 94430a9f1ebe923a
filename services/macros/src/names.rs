//! Names and texts of a service as the wire and its description know them.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Attribute, Expr, Lit, Meta, Type};

/// The identifier without a leading `r#`, which is Rust's spelling and no part of the name.
pub(crate) fn plain(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// Says what is wrong with `name` as a wire name, or `None` when nothing is.
///
/// The slash joins service and method in the method's id and in every log line, so neither may hold one; white space
/// and control characters would let names differ that look alike.
pub(crate) fn wire_name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a wire name cannot be empty".to_owned());
    }
    let allowed =
        |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
    let fault = name.chars().find(|&character| !allowed(character))?;
    Some(format!(
        "a wire name is made of letters, digits, `_`, `-` and `.`; {fault:?} is none of these"
    ))
}

/// The method's number on the wire: FNV-1a, 32 bits, over `service/method`.
///
/// `corewire::MethodId::of` computes the same; the macro needs it early, to refuse two methods with one id.
pub(crate) fn method_id(service: &str, method: &str) -> u32 {
    const OFFSET_BASIS: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    let bytes = service.bytes().chain([b'/']).chain(method.bytes());
    bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME))
}

/// The doc comment as text: one line per line, without the space that follows `///`.
///
/// A `#[doc = …]` whose value is not a literal (`include_str!`) is left out: its text is not known here.
pub(crate) fn docs(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes.iter().filter(|it| it.path().is_ident("doc")) {
        let Meta::NameValue(doc) = &attribute.meta else {
            continue;
        };
        let Expr::Lit(value) = &doc.value else {
            continue;
        };
        let Lit::Str(text) = &value.lit else {
            continue;
        };
        for line in text.value().split('\n') {
            lines.push(line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned());
        }
    }
    lines.join("\n").trim().to_owned()
}

/// The type as its author would write it: `Result<Vec<u8>, Status>`, whatever the spaces in the source.
pub(crate) fn type_text(ty: &Type) -> String {
    let mut text = String::new();
    write_tokens(&mut text, ty.to_token_stream());
    text
}

fn write_tokens(text: &mut String, tokens: TokenStream) {
    // In a type, `-` occurs only in `->`, and a quote only before a lifetime's name: both are glued to what follows.
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{ ", " }"),
                    Delimiter::None => ("", ""),
                };
                if group.delimiter() != Delimiter::None {
                    separate_from_word(text, open);
                }
                text.push_str(open);
                write_tokens(text, group.stream());
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                separator @ (',' | ';') => {
                    text.push(separator);
                    text.push(' ');
                }
                operator @ ('=' | '+') => {
                    text.push(' ');
                    text.push(operator);
                    text.push(' ');
                }
                '-' => text.push_str(" -"),
                '>' if text.ends_with(" -") => text.push_str("> "),
                '>' => {
                    // `Vec<u8,>` is `Vec<u8>`.
                    let end = text.trim_end_matches([' ', ',']).len();
                    text.truncate(end);
                    text.push('>');
                }
                '\'' => {
                    separate_words(text);
                    text.push('\'');
                }
                other => text.push(other),
            },
            word @ (TokenTree::Ident(_) | TokenTree::Literal(_)) => {
                separate_words(text);
                text.push_str(&word.to_string());
            }
        }
    }
}

/// Puts a space between two words: `dyn Trait`, `mut T`, `&'a T`.
fn separate_words(text: &mut String) {
    if text.ends_with(|end: char| end.is_alphanumeric() || end == '_') {
        text.push(' ');
    }
}

/// Puts a space before an array, tuple or block that follows a word, but none in `Fn(u8)`.
fn separate_from_word(text: &mut String, open: &str) {
    if open != "(" {
        separate_words(text);
    }
}

#[cfg(test)]
mod tests {
    use super::{docs, method_id, type_text, wire_name_fault};
    use syn::parse_quote;

    #[test]
    fn types_read_as_written_by_hand() {
        let cases: [(syn::Type, &str); 8] = [
            (parse_quote!(Option<Vec<u8>>), "Option<Vec<u8>>"),
            (parse_quote!(HashMap<String,Vec<u8>,>), "HashMap<String, Vec<u8>>"),
            (parse_quote!(::std::string::String), "::std::string::String"),
            (parse_quote!((u8, u16)), "(u8, u16)"),
            (parse_quote!([u8; 4]), "[u8; 4]"),
            (parse_quote!(Cow<'static, str>), "Cow<'static, str>"),
            (parse_quote!(Box<dyn Fn(u8) -> bool + 'static>), "Box<dyn Fn(u8) -> bool + 'static>"),
            (parse_quote!(()), "()"),
        ];
        for (ty, expected) in cases {
            assert_eq!(type_text(&ty), expected);
        }
    }

    #[test]
    fn method_ids_are_fnv_1a_of_service_and_method() {
        // From another implementation, one that gives the published 0xbf9cf968 for `foobar`.
        assert_eq!(method_id("kv.KeyValue", "get"), 0x4636_e689);
        assert_eq!(method_id("Echo", "echo"), 0xef1f_fcd0);
        assert_eq!(method_id("", ""), 0x2a0c_975e);
        assert_ne!(method_id("a", "b"), method_id("b", "a"));
    }

    #[test]
    fn docs_lose_the_comment_marks_only() {
        let item: syn::ItemTrait = parse_quote! {
            /// Keeps values.
            ///
            ///   * indented
            #[doc = "Two\nlines"]
            #[doc(hidden)]
            trait Store {}
        };
        assert_eq!(docs(&item.attrs), "Keeps values.\n\n  * indented\nTwo\nlines");
    }

    #[test]
    fn wire_names_hold_no_separators() {
        assert_eq!(wire_name_fault("kv.KeyValue-2"), None);
        assert_eq!(wire_name_fault("größe"), None);
        for name in ["", "a/b", "a b", "a\n"] {
            assert!(wire_name_fault(name).is_some(), "{name:?} was taken");
        }
    }
}
