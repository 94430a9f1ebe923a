//! `#[corewire::main]` and `#[corewire::test]`: a function that is async to its author and not to its caller.
//!
//! The function is kept as it is, inside of one of the same name that runs it; so errors in its body are at their tokens, and
//! `?` knows its return type.

use crate::errors::Errors;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Expr, ItemFn, Lit, MetaNameValue, Path, Token};

/// Which of the two attributes it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Main,
    Test,
}

impl Entry {
    fn name(self) -> &'static str {
        match self {
            Self::Main => "#[corewire::main]",
            Self::Test => "#[corewire::test]",
        }
    }
}

/// What was given in the attribute's parentheses.
#[derive(Default)]
struct Options {
    corewire: Option<Path>,
    /// Fields of `ClientShard`, with their values.
    shard: Vec<(Ident, Expr)>,
    seeds: Option<(Ident, Expr)>,
}

/// Writes the function that runs the async one.
pub(crate) fn expand(entry: Entry, options: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let Ok(function) = syn::parse2::<ItemFn>(item.clone()) else {
        let text = format!("`{}` runs an async function; put it on an `async fn`", entry.name());
        errors.on(first_token(&item), text);
        let mut tokens = errors.into_tokens();
        item.to_tokens(&mut tokens);
        return tokens;
    };
    let options = read_options(entry, options, &mut errors);
    check(entry, &function, &options, &mut errors);
    let broken = errors.count() > 0;
    let mut tokens = errors.into_tokens();
    if broken {
        // It is kept, so that its uses are not reported as undefined.
        if entry == Entry::Main {
            let (attributes, name) = (&function.attrs, &function.sig.ident);
            tokens.extend(quote!(#(#attributes)* fn #name() {}));
        }
        return tokens;
    }
    let expansion = wrap(entry, &function, &options);
    match &options.corewire {
        Some(path) => crate::renamed::rename(expansion, &path.to_token_stream()),
        None => expansion,
    }
}

fn wrap(entry: Entry, function: &ItemFn, options: &Options) -> TokenStream {
    let (attributes, visibility, name) = (&function.attrs, &function.vis, &function.sig.ident);
    let output = &function.sig.output;
    let inner = ItemFn {
        attrs: Vec::new(),
        vis: syn::Visibility::Inherited,
        sig: function.sig.clone(),
        block: function.block.clone(),
    };
    // Errors of the types that pass between the two are shown at the function's name.
    let span = name.span().resolved_at(Span::mixed_site());
    let run = match entry {
        Entry::Main => {
            let fields =
                options.shard.iter().map(|(field, value)| match field.to_string().as_str() {
                    "cpu" => quote!(#field: ::core::option::Option::Some(#value),),
                    _ => quote!(#field: #value,),
                });
            let shard = quote! {
                ::corewire::ClientShard { #(#fields)* ..::core::default::Default::default() }
            };
            quote_spanned!(span=> ::corewire::entry::main(#shard, #name))
        }
        Entry::Test if function.sig.inputs.is_empty() => {
            quote_spanned!(span=> ::corewire::entry::test(#name))
        }
        Entry::Test => {
            let seeds = match &options.seeds {
                Some((_, seeds)) => seeds.to_token_stream(),
                None => quote!(1),
            };
            quote_spanned!(span=> ::corewire::entry::simulated(#seeds, #name))
        }
    };
    let test = (entry == Entry::Test).then(|| quote!(#[::core::prelude::v1::test]));
    quote! {
        #test
        #(#attributes)*
        #visibility fn #name() #output {
            #inner
            #run
        }
    }
}

/// Reports what such a function cannot be.
fn check(entry: Entry, function: &ItemFn, options: &Options, errors: &mut Errors) {
    let name = entry.name();
    let sig = &function.sig;
    if sig.asyncness.is_none() {
        errors.at(sig.fn_token.span, format!("`{name}` runs an async function; write `async fn`"));
    }
    for (token, what) in [
        (sig.constness.map(|it| it.span), "`const`"),
        (sig.unsafety.map(|it| it.span), "`unsafe`"),
        (sig.abi.as_ref().map(Spanned::span), "`extern`"),
        ((!sig.generics.params.is_empty()).then(|| sig.generics.span()), "generic"),
    ] {
        if let Some(span) = token {
            errors.at(span, format!("a function under `{name}` cannot be {what}: nobody calls it"));
        }
    }
    if entry == Entry::Test {
        for attribute in function.attrs.iter().filter(|it| is_test(it)) {
            errors.on(attribute, format!("`{name}` makes it a test already; leave `#[test]` out"));
        }
    }
    let mut inputs = sig.inputs.iter();
    match (entry, inputs.next()) {
        (Entry::Main, Some(input)) => {
            errors.on(input, format!("a function under `{name}` takes no arguments"));
        }
        (Entry::Test, Some(input)) if !cfg!(feature = "testing") => errors.on(
            input,
            "a simulation needs the feature `testing` of corewire: add it to corewire under `[dev-dependencies]`",
        ),
        (Entry::Test, None) => {
            if let Some((key, _)) = &options.seeds {
                errors.on(
                    key,
                    "`seeds` is for simulations: a test that takes a `corewire::testing::Simulation`",
                );
            }
        }
        _ => {}
    }
    if let Some(input) = inputs.next() {
        errors.on(
            input,
            format!(
                "a function under `{name}` takes nothing, or one `corewire::testing::Simulation`"
            ),
        );
    }
}

fn is_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("test")
}

fn read_options(entry: Entry, tokens: TokenStream, errors: &mut Errors) -> Options {
    let mut options = Options::default();
    let known = match entry {
        Entry::Main => "there are `cpu = …`, `spin = …`, `host = …` and `crate = …`",
        Entry::Test => "there are `seeds = …` and `crate = …`",
    };
    let given = match Punctuated::<MetaNameValue, Token![,]>::parse_terminated.parse2(tokens) {
        Ok(given) => given,
        Err(error) => {
            errors.at(error.span(), format!("options are written `name = value`; {known}"));
            return options;
        }
    };
    let mut seen = Vec::<String>::new();
    for option in given {
        let Some(key) = option.path.get_ident().cloned() else {
            errors.on(&option.path, format!("unknown option; {known}"));
            continue;
        };
        let text = key.to_string();
        if seen.contains(&text) {
            errors.on(&key, format!("`{text}` is given twice"));
            continue;
        }
        match (entry, text.as_str(), option.value) {
            (_, "crate", Expr::Path(path)) => options.corewire = Some(path.path),
            (_, "crate", value) => errors.on(value, "`crate` takes a path: `crate = cw`"),
            (Entry::Main, "cpu" | "spin" | "host", value) => {
                options.shard.push((key, value));
            }
            (Entry::Test, "seeds", value) => {
                if is_zero(&value) {
                    errors.on(&value, "with 0 seeds nothing would be tested");
                }
                options.seeds = Some((key, value));
            }
            _ => errors.on(&key, format!("unknown option; {known}")),
        }
        seen.push(text);
    }
    options
}

fn is_zero(value: &Expr) -> bool {
    let Expr::Lit(literal) = value else { return false };
    matches!(&literal.lit, Lit::Int(number) if number.base10_digits() == "0")
}

/// What an item that is no function begins with.
fn first_token(item: &TokenStream) -> TokenStream {
    item.clone().into_iter().next().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::{Entry, expand};
    use proc_macro2::TokenStream;
    use quote::quote;

    fn text(entry: Entry, options: TokenStream, item: TokenStream) -> String {
        expand(entry, options, item).to_string()
    }

    #[test]
    fn a_function_is_kept_inside_of_one_that_runs_it() {
        let main = text(
            Entry::Main,
            quote!(cpu = 2, crate = cw),
            quote! {
                /// Kept.
                pub async fn main() -> Result<(), Error> { work().await?; Ok(()) }
            },
        );
        let expected = quote! {
            #[doc = r" Kept."]
            pub fn main() -> Result<(), Error> {
                async fn main() -> Result<(), Error> { work().await?; Ok(()) }
                cw::entry::main(
                    cw::ClientShard { cpu: ::core::option::Option::Some(2), ..::core::default::Default::default() },
                    main
                )
            }
        };
        assert_eq!(main, expected.to_string());
    }

    #[test]
    fn each_fault_is_reported() {
        let cases = [
            (
                Entry::Main,
                quote!(),
                quote!(
                    struct A;
                ),
                "async function",
            ),
            (
                Entry::Main,
                quote!(),
                quote!(
                    fn main() {}
                ),
                "write `async fn`",
            ),
            (
                Entry::Main,
                quote!(),
                quote!(
                    async fn main(a: u8) {}
                ),
                "no arguments",
            ),
            (
                Entry::Main,
                quote!(seeds = 3),
                quote!(
                    async fn main() {}
                ),
                "unknown option",
            ),
            (
                Entry::Main,
                quote!(cpu),
                quote!(
                    async fn main() {}
                ),
                "name = value",
            ),
            (
                Entry::Main,
                quote!(cpu = 1, cpu = 2),
                quote!(
                    async fn main() {}
                ),
                "twice",
            ),
            (
                Entry::Main,
                quote!(),
                quote!(
                    async fn main<T>() {}
                ),
                "generic",
            ),
            (
                Entry::Test,
                quote!(seeds = 3),
                quote!(
                    async fn a() {}
                ),
                "for simulations",
            ),
            (
                Entry::Test,
                quote!(),
                quote!(
                    #[test]
                    async fn a() {}
                ),
                "leave `#[test]` out",
            ),
        ];
        for (entry, options, item, part) in cases {
            let text = text(entry, options, item);
            assert!(text.contains("compile_error"), "{text}");
            assert!(text.contains(part), "{text} does not say {part:?}");
        }
    }
}
