//! The rules of a service. What passes them becomes a [`Service`], from which the expansion follows without a choice.

mod types;

use crate::errors::Errors;
use crate::names;
use crate::parse::{Declaration, MethodDeclaration};
use std::collections::{HashMap, HashSet};
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, Ident, LitStr, Meta, Pat, PatType, Receiver, ReturnType, Signature,
    TraitItem, Type, TypeReference,
};

/// Methods that every client has, and `clone`, which a derive gives it.
const CLIENT_METHODS: [&str; 8] =
    ["new", "connect", "with_timeout", "without_timeout", "with", "in_context", "channel", "clone"];

/// A service that keeps every rule. Methods that break a rule are left out of it.
pub(crate) struct Service<'a> {
    pub(crate) wire_name: String,
    pub(crate) docs: String,
    pub(crate) methods: Vec<Method<'a>>,
}

/// One method.
pub(crate) struct Method<'a> {
    pub(crate) declaration: &'a MethodDeclaration,
    pub(crate) wire_name: String,
    pub(crate) docs: String,
    /// The type of the first parameter after `&self`, if that is `&Context`.
    pub(crate) context: Option<&'a Type>,
    /// What travels, in declaration order.
    pub(crate) arguments: Vec<Argument<'a>>,
    /// Which of them is the key, if one is.
    key: Option<usize>,
    /// What it returns; nothing if it is one-way.
    pub(crate) returned: Option<Returned<'a>>,
    /// The codec of what travels, except for streams.
    pub(crate) request_codec: Codec,
}

impl<'a> Method<'a> {
    /// Whether it runs on a thread beside the shards.
    pub(crate) fn is_blocking(&self) -> bool {
        self.declaration.is_blocking()
    }

    /// The arguments that travel in the request.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Argument<'a>> {
        self.arguments.iter().filter(|it| it.item.is_none())
    }

    /// The argument that says which shard a call belongs to.
    pub(crate) fn key(&self) -> Option<&Argument<'a>> {
        self.arguments.get(self.key?)
    }

    /// The stream that the client sends, and the type of its messages.
    pub(crate) fn stream(&self) -> Option<(&Argument<'a>, &'a Type)> {
        self.arguments.iter().find_map(|it| Some((it, it.item?)))
    }

    /// The codec of replies, or of the messages of a stream of replies.
    pub(crate) fn reply_codec(&self) -> Codec {
        self.returned.as_ref().map_or(Codec::Raw, |it| Codec::of(it.item.unwrap_or(it.reply)))
    }
}

/// The type `Result<T, Status>`.
pub(crate) struct Returned<'a> {
    /// `T`.
    pub(crate) reply: &'a Type,
    /// `M`, if `T` is `Streaming<M>`.
    pub(crate) item: Option<&'a Type>,
    /// `Status`, as the author spelled it.
    pub(crate) status: &'a Type,
}

/// One argument that travels.
pub(crate) struct Argument<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) ty: &'a Type,
    /// `M`, if the type is `Streaming<M>`.
    pub(crate) item: Option<&'a Type>,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// The arguments one after the other, in speedy's encoding.
    Speedy,
    /// The bytes themselves.
    Raw,
}

impl Codec {
    /// The codec of a body that is one value of type `ty`.
    pub(crate) fn of(ty: &Type) -> Self {
        if types::is_named(ty, "Bytes") { Self::Raw } else { Self::Speedy }
    }
}

/// Checks the whole trait. `None` when no server and client can be made from it at all.
pub(crate) fn service<'a>(
    declaration: &'a Declaration,
    errors: &mut Errors,
) -> Option<Service<'a>> {
    let sound = trait_head(declaration, errors);
    for other in &declaration.others {
        not_a_method(other, errors);
    }
    let wire_name = declaration
        .name
        .as_ref()
        .map_or_else(|| names::plain(&declaration.item.ident), |name| name.value());
    let mut rust_names = HashSet::new();
    let methods = declaration
        .methods
        .iter()
        // rustc says itself that the trait has two methods of one name.
        .filter(|it| rust_names.insert(&it.item.sig.ident))
        .filter_map(|it| method(it, errors))
        .collect::<Vec<_>>();
    unique(&wire_name, &methods, errors);
    sound.then(|| Service { wire_name, docs: names::docs(&declaration.item.attrs), methods })
}

/// Checks what stands before the trait's brace.
fn trait_head(declaration: &Declaration, errors: &mut Errors) -> bool {
    let item = &declaration.item;
    let before = errors.count();
    if let Some(token) = &item.unsafety {
        errors.on(token, "a service cannot be an `unsafe` trait");
    }
    if let Some(token) = &item.auto_token {
        errors.on(token, "a service cannot be an `auto` trait");
    }
    generics(&item.generics, "a service", errors);
    errors.count() == before
}

/// Neither the wire nor the client knows type parameters.
fn generics(generics: &syn::Generics, of: &str, errors: &mut Errors) {
    if !generics.params.is_empty() {
        errors.on(generics, format!("{of} cannot be generic: the wire knows no type parameters"));
    }
    if let Some(clause) = &generics.where_clause {
        errors.on(clause, format!("{of} cannot have a `where` clause"));
    }
}

fn not_a_method(item: &TraitItem, errors: &mut Errors) {
    match item {
        TraitItem::Const(it) => errors
            .on(it.const_token, "a service has methods only; move the constant out of the trait"),
        TraitItem::Type(it) => errors
            .on(it.type_token, "a service has methods only; name the type itself in the methods"),
        TraitItem::Macro(it) => errors.on(
            &it.mac.path,
            "a service's methods must be spelled out; the macro cannot look into another one",
        ),
        other => errors.on(other, "a service has methods only"),
    }
}

/// Checks one method. `None` when it broke a rule that the expansion relies on.
fn method<'a>(declaration: &'a MethodDeclaration, errors: &mut Errors) -> Option<Method<'a>> {
    let item = &declaration.item;
    let before = errors.count();
    for attribute in &item.attrs {
        if attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr") {
            errors.on(
                attribute,
                "a service's methods cannot be conditional: both sides must know the same ones",
            );
        }
    }
    signature_head(&item.sig, declaration.blocking.is_some(), errors);
    if let Some(body) = &item.default {
        errors.at(
            body.brace_token.span.open(),
            "a service's methods have no default body: a client could not know it",
        );
    }
    let (context, arguments) = parameters(&item.sig, errors);
    let key = declaration.key.as_ref().and_then(|key| key_argument(key, &arguments, errors));
    let request_codec = request_codec(&arguments, errors);
    let returned = match &declaration.one_way {
        Some(attribute) => {
            one_way(attribute, &item.sig, &arguments, errors);
            None
        }
        None => returned(&item.sig, errors),
    };
    if let Some(attribute) = &declaration.blocking {
        blocking(attribute, context, &arguments, returned.as_ref(), errors);
    }
    if errors.count() > before {
        return None;
    }
    let ident = &item.sig.ident;
    let wire_name =
        declaration.name.as_ref().map_or_else(|| names::plain(ident), |name| name.value());
    Some(Method {
        declaration,
        wire_name,
        docs: names::docs(&item.attrs),
        context,
        arguments,
        key,
        returned,
        request_codec,
    })
}

/// The number of the argument that is the key.
fn key_argument(key: &LitStr, arguments: &[Argument<'_>], errors: &mut Errors) -> Option<usize> {
    let wanted = key.value();
    let found = arguments.iter().position(|it| names::plain(it.ident) == wanted);
    match found.and_then(|index| arguments.get(index)) {
        Some(argument) if argument.item.is_some() => {
            errors.on(
                key,
                "a stream cannot be the key: its messages come after the call has its shard",
            );
            None
        }
        Some(_) => found,
        None => {
            errors.on(key, no_such_argument(&wanted, arguments));
            None
        }
    }
}

fn no_such_argument(wanted: &str, arguments: &[Argument<'_>]) -> String {
    let known: Vec<String> = arguments
        .iter()
        .filter(|it| it.item.is_none())
        .map(|it| format!("`{}`", names::plain(it.ident)))
        .collect();
    let known = match &known[..] {
        [] => "it has none that could be the key".to_owned(),
        [only] => format!("it has {only}"),
        several => format!("it has {}", several.join(", ")),
    };
    format!("the method has no argument `{wanted}`; {known}")
}

/// Checks what a method marked `#[one_way]` must not have.
fn one_way(
    attribute: &Attribute,
    signature: &Signature,
    arguments: &[Argument<'_>],
    errors: &mut Errors,
) {
    if !matches!(attribute.meta, Meta::Path(_)) {
        errors.on(attribute, "write `#[one_way]`; it takes no options");
    }
    if let ReturnType::Type(_, returned) = &signature.output
        && !matches!(&**returned, Type::Tuple(tuple) if tuple.elems.is_empty())
    {
        errors.on(
            returned,
            "a one-way method returns nothing: its caller hears of no outcome; take the return type or `#[one_way]` away",
        );
    }
    for argument in arguments.iter().filter(|it| it.item.is_some()) {
        errors.on(argument.ty, "a one-way method takes no stream: nobody would hear how it ended");
    }
}

/// Checks what a method marked `#[blocking]` must not have: what stays on its shard.
fn blocking(
    attribute: &Attribute,
    context: Option<&Type>,
    arguments: &[Argument<'_>],
    returned: Option<&Returned<'_>>,
    errors: &mut Errors,
) {
    const INSTEAD: &str =
        "write `async fn` without `#[blocking]`, and give `corewire::offload` what the work needs";
    if !matches!(attribute.meta, Meta::Path(_)) {
        errors.on(attribute, "write `#[blocking]`; it takes no options");
    }
    if let Some(context) = context {
        errors.on(
            context,
            format!("a blocking method runs on another thread, and the context of a call stays on its shard: {INSTEAD}"),
        );
    }
    let streams = arguments.iter().filter(|it| it.item.is_some()).map(|it| it.ty);
    let streams = streams.chain(returned.filter(|it| it.item.is_some()).map(|it| it.reply));
    for stream in streams {
        errors.on(
            stream,
            format!("a blocking method runs on another thread, and a stream stays on its shard: {INSTEAD}"),
        );
    }
}

/// Checks the keywords before the parameters, the name and the receiver.
fn signature_head(signature: &Signature, blocking: bool, errors: &mut Errors) {
    let name = &signature.ident;
    if let Some(token) = &signature.constness {
        errors.on(token, "a service's methods cannot be `const`");
    }
    if let Some(token) = &signature.unsafety {
        errors.on(
            token,
            "a service's methods cannot be `unsafe`: a remote caller can promise nothing",
        );
    }
    if let Some(abi) = &signature.abi {
        errors.on(abi, "a service's methods cannot be `extern`");
    }
    match &signature.asyncness {
        None if !blocking => errors.on(
            signature.fn_token,
            format!(
                "a service's methods are asynchronous; write `async fn {name}`, or `#[blocking]` before one that runs on a \
                 thread beside the shards"
            ),
        ),
        Some(token) if blocking => errors.on(
            token,
            format!("a blocking method has a thread for itself and awaits nothing; write `fn {name}`"),
        ),
        _ => {}
    }
    if CLIENT_METHODS.contains(&names::plain(name).as_str()) {
        errors.on(
            name,
            format!(
                "every client has a method `{name}` of its own; rename this one and, if the wire name matters, add \
                 `#[corewire(name = \"{name}\")]`"
            ),
        );
    }
    generics(&signature.generics, "a service's method", errors);
    match signature.receiver() {
        Some(receiver) => self_by_reference(receiver, errors),
        None if blocking => {}
        None => errors.on(name, format!("`{name}` must take `&self` as its first parameter")),
    }
}

fn self_by_reference(receiver: &Receiver, errors: &mut Errors) {
    let plain = matches!(&receiver.reference, Some((_, None)))
        && receiver.mutability.is_none()
        && receiver.colon_token.is_none();
    if !plain {
        errors.on(
            receiver,
            "take `&self`: the calls in flight on a shard share one service; keep state in cells",
        );
    }
}

/// Splits the parameters into the context and what travels.
fn parameters<'a>(
    signature: &'a Signature,
    errors: &mut Errors,
) -> (Option<&'a Type>, Vec<Argument<'a>>) {
    let typed = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    let mut context_type = None;
    let mut arguments = Vec::new();
    for (index, typed) in typed.enumerate() {
        for attribute in &typed.attrs {
            errors.on(attribute, "arguments of a service's method take no attributes");
        }
        if let Some(reference) = types::context_reference(&typed.ty) {
            context(typed, reference, index, errors);
            context_type = Some(&*typed.ty);
            continue;
        }
        if types::is_named(&typed.ty, "Context") {
            errors.on(
                &typed.ty,
                "write `&Context`: the context of a call does not travel; a type of your own needs another name",
            );
            continue;
        }
        let item = types::stream_item(&typed.ty);
        types::travels(item.unwrap_or(&typed.ty), errors);
        if item.is_some() && arguments.iter().any(|it: &Argument<'_>| it.item.is_some()) {
            errors.on(&typed.ty, "a method takes one stream at most");
        }
        if let Some(ident) = argument_name(&typed.pat, errors) {
            arguments.push(Argument { ident, ty: &typed.ty, item });
        }
    }
    (context_type, arguments)
}

/// Checks a parameter whose type is `&Context` or `&mut Context`.
fn context(typed: &PatType, reference: &TypeReference, index: usize, errors: &mut Errors) {
    if index > 0 {
        errors.on(&typed.ty, "`&Context` must be the first parameter after `&self`");
    }
    if let Some(token) = &reference.mutability {
        errors.on(token, "the context of a call is read-only; take `&Context`");
    }
    // `_: &Context` is allowed: the context has no name on the wire.
    if !matches!(&*typed.pat, Pat::Wild(_)) {
        argument_name(&typed.pat, errors);
    }
}

/// The argument's name, which is part of the description that other programs see.
fn argument_name<'a>(pattern: &'a Pat, errors: &mut Errors) -> Option<&'a Ident> {
    match pattern {
        Pat::Ident(it) if it.by_ref.is_none() && it.mutability.is_none() && it.subpat.is_none() => {
            Some(&it.ident)
        }
        Pat::Ident(it) if it.subpat.is_none() => {
            errors.on(
                pattern,
                format!(
                    "a declaration names its arguments; write `{}` here and bind it as you like in the implementation",
                    it.ident
                ),
            );
            None
        }
        _ => {
            errors.on(
                pattern,
                "a declaration names its arguments; write a name here and the pattern in the implementation",
            );
            None
        }
    }
}

/// A lone `Bytes` is the body itself. Together with other arguments it would be copied into an encoding, although
/// `Bytes` means that there is none.
fn request_codec(arguments: &[Argument<'_>], errors: &mut Errors) -> Codec {
    let values = || arguments.iter().filter(|it| it.item.is_none());
    if let (Some(only), 1) = (values().next(), values().count()) {
        return Codec::of(only.ty);
    }
    for argument in values() {
        if Codec::of(argument.ty) == Codec::Raw {
            errors.on(
                argument.ty,
                "`Bytes` is a body without any encoding, so it must be the only argument; use `Vec<u8>` next to other arguments",
            );
        }
    }
    Codec::Speedy
}

/// `T` and `Status` of the return type `Result<T, Status>`.
fn returned<'a>(signature: &'a Signature, errors: &mut Errors) -> Option<Returned<'a>> {
    let ReturnType::Type(_, returned) = &signature.output else {
        let name = &signature.ident;
        errors.at(
            name.span(),
            format!("`{name}` must return `Result<T, Status>`: any call can fail on its way"),
        );
        return None;
    };
    let Some((reply, status)) = types::result_parts(returned) else {
        errors.on(
            returned,
            "a service's method returns `Result<T, Status>`, spelled out: any call can fail on its way",
        );
        return None;
    };
    if !types::is_named(status, "Status") {
        errors
            .on(status, "the error of a service's method is `Status`: it is what the wire carries");
    }
    let item = types::stream_item(reply);
    types::travels(item.unwrap_or(reply), errors);
    Some(Returned { reply, item, status })
}

/// Two methods of one service must differ in their wire names, and in the ids that follow from them.
fn unique(service: &str, methods: &[Method<'_>], errors: &mut Errors) {
    let mut by_id = HashMap::<u32, &Method<'_>>::new();
    for method in methods {
        let id = names::method_id(service, &method.wire_name);
        let Some(first) = by_id.get(&id) else {
            by_id.insert(id, method);
            continue;
        };
        // The error goes to the token that made the name: the option, or else the method's own name.
        let place = method
            .declaration
            .name
            .as_ref()
            .map_or_else(|| method.declaration.item.sig.ident.span(), Spanned::span);
        let first_rust_name = &first.declaration.item.sig.ident;
        if first.wire_name == method.wire_name {
            errors.at(
                place,
                format!(
                    "the wire name `{}` is already taken by the method `{first_rust_name}`",
                    method.wire_name
                ),
            );
        } else {
            errors.at(
                place,
                format!(
                    "the method id of `{service}/{}` is also that of `{service}/{}` ({id:#010x}); give this method \
                     another wire name by `#[corewire(name = \"…\")]`",
                    method.wire_name, first.wire_name
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests;
