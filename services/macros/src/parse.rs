//! Reads the attribute and the trait into plain structs. What is *allowed* is `check`'s business.

use crate::errors::Errors;
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, Item, ItemTrait, Lit, LitStr, Meta, MetaNameValue, Path, Token, TraitItem,
    TraitItemFn,
};

/// A trait under `#[corewire::service]`, with the macro's own attributes taken off.
pub(crate) struct Declaration {
    /// The wire name given in the attribute.
    pub(crate) name: Option<LitStr>,
    /// The class of all its methods that give none of their own.
    pub(crate) class: Option<LitStr>,
    /// What `corewire` is called here, given by `crate = …`.
    pub(crate) corewire: Option<Path>,
    /// The trait without its items.
    pub(crate) item: ItemTrait,
    /// The methods, in declaration order.
    pub(crate) methods: Vec<MethodDeclaration>,
    /// Everything in the trait that is not a method.
    pub(crate) others: Vec<TraitItem>,
}

/// One method as written, with the macro's own attributes taken off.
pub(crate) struct MethodDeclaration {
    /// The method, its docs and foreign attributes.
    pub(crate) item: TraitItemFn,
    /// The wire name given by `#[corewire(name = "…")]`.
    pub(crate) name: Option<LitStr>,
    /// The name of the argument that is the key, given by `#[corewire(key = "…")]`.
    pub(crate) key: Option<LitStr>,
    /// The class given by `#[corewire(class = "…")]`.
    pub(crate) class: Option<LitStr>,
    /// `#[one_way]`, if it is there.
    pub(crate) one_way: Option<Attribute>,
    /// `#[blocking]`, if it is there.
    pub(crate) blocking: Option<Attribute>,
}

impl MethodDeclaration {
    /// Whether it is marked `#[blocking]`.
    pub(crate) fn is_blocking(&self) -> bool {
        self.blocking.is_some()
    }

    /// The attribute because of which another thread needs the service: a blocking method takes `&self`.
    pub(crate) fn shares_service(&self) -> Option<&Attribute> {
        self.blocking.as_ref().filter(|_| self.item.sig.receiver().is_some())
    }
}

impl Declaration {
    /// The first attribute because of which threads beside the shards need the service.
    pub(crate) fn shares_service(&self) -> Option<&Attribute> {
        self.methods.iter().find_map(MethodDeclaration::shares_service)
    }
}

/// Reads both inputs of the macro. `None` when the item is not a trait, which has then been reported.
pub(crate) fn declaration(
    attribute: TokenStream,
    item: TokenStream,
    errors: &mut Errors,
) -> Option<Declaration> {
    let options = options(attribute, errors);
    let mut item = match syn::parse2::<Item>(item) {
        Ok(Item::Trait(item)) => item,
        Ok(other) => {
            errors.at(
                keyword(&other),
                "`#[corewire::service]` describes a service by a trait; put it on a `trait`",
            );
            return None;
        }
        Err(error) => {
            errors.push(error);
            return None;
        }
    };
    for attribute in item.attrs.extract_if(.., |it| is_ours(it)) {
        errors.on(attribute, "options of the service go into `#[corewire::service(…)]`");
    }
    let mut methods = Vec::new();
    let mut others = Vec::new();
    for inner in std::mem::take(&mut item.items) {
        match inner {
            TraitItem::Fn(method) => methods.push(method_declaration(method, errors)),
            other => others.push(other),
        }
    }
    let Options { name, corewire, key, class } = options;
    if let Some(key) = key {
        errors.on(&key, "`key = \"…\"` goes to a method, into `#[corewire(…)]`");
    }
    Some(Declaration { name, class, corewire, item, methods, others })
}

fn method_declaration(mut item: TraitItemFn, errors: &mut Errors) -> MethodDeclaration {
    let (mut name, mut key, mut class) = (None, None, None);
    let (mut one_way, mut blocking) = (None, None);
    let is_kind = |it: &Attribute| it.path().is_ident("one_way") || it.path().is_ident("blocking");
    for attribute in item.attrs.extract_if(.., |it| is_ours(it) || is_kind(it)) {
        if attribute.path().is_ident("one_way") {
            one_way = Some(attribute);
            continue;
        }
        if attribute.path().is_ident("blocking") {
            blocking = Some(attribute);
            continue;
        }
        let Meta::List(list) = &attribute.meta else {
            errors
                .on(&attribute, "write `#[corewire(name = \"…\")]`, `#[corewire(key = \"…\")]` or `#[corewire(class = \"…\")]`");
            continue;
        };
        let given = options(list.tokens.clone(), errors);
        if let Some(path) = &given.corewire {
            errors.on(path, "`crate = …` goes into `#[corewire::service(…)]`");
        }
        once(&mut name, given.name, "name", errors);
        once(&mut key, given.key, "key", errors);
        once(&mut class, given.class, "class", errors);
    }
    MethodDeclaration { item, name, key, class, one_way, blocking }
}

/// Keeps what an option says; reports one that is given twice.
fn once(place: &mut Option<LitStr>, given: Option<LitStr>, option: &str, errors: &mut Errors) {
    let Some(given) = given else { return };
    if place.is_some() {
        errors.on(&given, format!("`{option}` is given twice"));
    }
    *place = Some(given);
}

/// Whether this is our helper attribute `#[corewire(…)]`.
fn is_ours(attribute: &Attribute) -> bool {
    attribute.path().is_ident("corewire")
}

/// The classes of methods.
const CLASSES: [&str; 3] = ["latency", "normal", "batch"];

/// The options that a service and a method share.
#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    key: Option<LitStr>,
    class: Option<LitStr>,
    corewire: Option<Path>,
}

/// Reads `name = "…"`, `key = "…"` and `class = "…"`; reports what it does not know, and a name that the wire cannot carry.
fn options(tokens: TokenStream, errors: &mut Errors) -> Options {
    let mut options = Options::default();
    if let Some(TokenTree::Literal(literal)) = tokens.clone().into_iter().next() {
        errors.on(&literal, "options have names; a wire name is given by `name = \"…\"`");
        return options;
    }
    let given = match Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens) {
        Ok(given) => given,
        Err(error) => {
            errors.push(error);
            return options;
        }
    };
    for option in given {
        if option.path().is_ident("crate") {
            match path_value(&option) {
                Some(path) => options.corewire = Some(path),
                None => errors.on(&option, "`crate` takes a path: `crate = cw`"),
            }
            continue;
        }
        let is = |name| option.path().is_ident(name);
        let (is_key, is_class) = (is("key"), is("class"));
        if !is_key && !is_class && !is("name") {
            errors.on(
                option.path(),
                "unknown option; there are `name = \"…\"` and `class = \"…\"`, for a service `crate = …`, and for a method `key = \"…\"`",
            );
            continue;
        }
        let which = match (is_key, is_class) {
            (true, _) => "key",
            (_, true) => "class",
            _ => "name",
        };
        let Some(value) = string_value(&option) else {
            errors.on(&option, format!("`{which}` takes a string: `{which} = \"…\"`"));
            continue;
        };
        if is_key {
            once(&mut options.key, Some(value), which, errors);
            continue;
        }
        if is_class {
            if !CLASSES.contains(&value.value().as_str()) {
                errors.on(&value, "there are the classes \"latency\", \"normal\" and \"batch\"");
            }
            once(&mut options.class, Some(value), which, errors);
            continue;
        }
        if let Some(fault) = crate::names::wire_name_fault(&value.value()) {
            errors.on(&value, fault);
        }
        if options.name.is_some() {
            errors.on(option.path(), "`name` is given twice");
        }
        options.name = Some(value);
    }
    options
}

/// The path of `crate = path`.
fn path_value(option: &Meta) -> Option<Path> {
    match option {
        Meta::NameValue(MetaNameValue { value: Expr::Path(value), .. }) => Some(value.path.clone()),
        _ => None,
    }
}

fn string_value(option: &Meta) -> Option<LitStr> {
    let Meta::NameValue(pair) = option else {
        return None;
    };
    let Expr::Lit(value) = &pair.value else {
        return None;
    };
    let Lit::Str(text) = &value.lit else {
        return None;
    };
    Some(text.clone())
}

/// The keyword that says what an item is: the token that should have been `trait`.
fn keyword(item: &Item) -> Span {
    match item {
        Item::Const(it) => it.const_token.span,
        Item::Enum(it) => it.enum_token.span,
        Item::Fn(it) => it.sig.fn_token.span,
        Item::Impl(it) => it.impl_token.span,
        Item::Mod(it) => it.mod_token.span,
        Item::Static(it) => it.static_token.span,
        Item::Struct(it) => it.struct_token.span,
        Item::TraitAlias(it) => it.trait_token.span,
        Item::Type(it) => it.type_token.span,
        Item::Union(it) => it.union_token.span,
        Item::Use(it) => it.use_token.span,
        other => other.span(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Declaration, declaration};
    use crate::errors::Errors;
    use proc_macro2::TokenStream;
    use quote::quote;

    fn read(attribute: TokenStream, item: TokenStream) -> (Option<Declaration>, Vec<String>) {
        let mut errors = Errors::default();
        let declaration = declaration(attribute, item, &mut errors);
        (declaration, errors.texts())
    }

    #[test]
    fn splits_a_trait_into_methods_and_the_rest() {
        let (declaration, errors) = read(
            quote!(name = "kv.Store",),
            quote! {
                /// Kept.
                pub trait Store {
                    const LIMIT: usize;
                    #[corewire(name = "get")]
                    /// Kept, too.
                    async fn fetch(&self) -> Result<(), Status>;
                    #[one_way]
                    async fn touch(&self);
                }
            },
        );
        assert_eq!(errors, [""; 0]);
        let declaration = declaration.expect("it is a trait");
        assert_eq!(declaration.name.expect("given").value(), "kv.Store");
        assert_eq!(declaration.item.attrs.len(), 1);
        assert!(declaration.item.items.is_empty());
        assert_eq!(declaration.others.len(), 1);
        let [fetch, touch] = &declaration.methods[..] else {
            panic!("two methods were declared");
        };
        assert_eq!(fetch.name.as_ref().expect("given").value(), "get");
        assert_eq!(fetch.item.attrs.len(), 1, "only the doc comment stays");
        assert!(fetch.one_way.is_none());
        assert!(touch.one_way.is_some());
        assert!(touch.item.attrs.is_empty());
    }

    #[test]
    fn reports_every_wrong_option_of_one_declaration() {
        let (declaration, errors) = read(
            quote!(nmae = "a", name = 3, name = "a/b"),
            quote! {
                #[corewire(name = "elsewhere")]
                trait Store {
                    #[corewire]
                    #[corewire(name = "a", name = "b")]
                    async fn get(&self) -> Result<(), Status>;
                }
            },
        );
        assert!(declaration.is_some());
        let expected = [
            "unknown option",
            "takes a string",
            "'/' is none of these",
            "go into `#[corewire::service(…)]`",
            "write `#[corewire(name",
            "given twice",
        ];
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for (error, part) in errors.iter().zip(expected) {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }

    #[test]
    fn only_a_trait_is_a_service() {
        for item in [
            quote!(
                struct A;
            ),
            quote!(
                fn a() {}
            ),
            quote!(
                mod a {}
            ),
        ] {
            let (declaration, errors) = read(TokenStream::new(), item);
            assert!(declaration.is_none());
            assert_eq!(errors.len(), 1);
            assert!(errors[0].contains("put it on a `trait`"));
        }
    }
}
