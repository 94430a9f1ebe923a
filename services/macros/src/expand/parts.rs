//! What the server's and the client's code are both made from.

use crate::check::{Argument, Codec, Method, Service};
use crate::names;
use crate::parse::Declaration;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use syn::spanned::Spanned;
use syn::{Attribute, Type};

/// What all parts of one expansion share.
pub(super) struct Expansion<'a> {
    pub(super) declaration: &'a Declaration,
    pub(super) service: &'a Service<'a>,
    pub(super) server: Ident,
    pub(super) client: Ident,
    /// The server's type parameter; a name that no type of the trait has.
    pub(super) parameter: Ident,
    /// The client's: the channel that it calls over.
    pub(super) channel: Ident,
    /// Conditions on the trait, which hold for all that is made from it.
    pub(super) conditions: Vec<&'a Attribute>,
}

/// The constant expression of the service's `ServiceDescription`.
pub(super) fn description(expansion: &Expansion<'_>) -> TokenStream {
    let service = &expansion.service.wire_name;
    let docs = &expansion.service.docs;
    let methods =
        expansion.service.methods.iter().map(|method| method_description(service, method));
    quote_spanned! {Span::mixed_site()=>
        ::corewire::ServiceDescription {
            name: #service,
            docs: #docs,
            methods: &[#(#methods),*],
        }
    }
}

fn method_description(service: &str, method: &Method<'_>) -> TokenStream {
    let name = &method.wire_name;
    let docs = &method.docs;
    let argument_names = method.arguments.iter().map(|it| names::plain(it.ident));
    let argument_types = method.arguments.iter().map(|it| names::type_text(it.ty));
    let reply = method.returned.as_ref().map_or_else(String::new, |it| names::type_text(it.reply));
    let key = match method.key() {
        None => quote_spanned!(Span::mixed_site()=> ::core::option::Option::None),
        Some(key) => {
            let key = names::plain(key.ident);
            quote_spanned!(Span::mixed_site()=> ::core::option::Option::Some(#key))
        }
    };
    let kind = kind(method);
    let request_codec = codec_id(method.request_codec);
    let reply_codec = codec_id(method.reply_codec());
    quote_spanned! {Span::mixed_site()=>
        ::corewire::MethodDescription {
            id: ::corewire::MethodId::of(#service, #name),
            service: #service,
            name: #name,
            docs: #docs,
            kind: ::corewire::CallKind::#kind,
            arguments: &[#(
                ::corewire::ArgumentDescription { name: #argument_names, type_name: #argument_types }
            ),*],
            key: #key,
            reply: #reply,
            request_codec: #request_codec,
            reply_codec: #reply_codec,
        }
    }
}

/// The variant of `corewire::CallKind`.
fn kind(method: &Method<'_>) -> Ident {
    let streams = method.returned.as_ref().map(|it| it.item.is_some());
    let name = match (method.stream().is_some(), streams) {
        (_, None) => "OneWay",
        (false, Some(false)) => "Unary",
        (true, Some(false)) => "ClientStream",
        (false, Some(true)) => "ServerStream",
        (true, Some(true)) => "Bidirectional",
    };
    Ident::new(name, Span::mixed_site())
}

fn codec_id(codec: Codec) -> TokenStream {
    match codec {
        Codec::Speedy => quote_spanned!(Span::mixed_site()=> ::corewire::CodecId::SPEEDY),
        Codec::Raw => quote_spanned!(Span::mixed_site()=> ::corewire::CodecId::RAW),
    }
}

/// The codec's type, placed at the reply's.
pub(super) fn codec_type(codec: Codec, reply: &Type) -> TokenStream {
    let span = site_of(reply);
    match codec {
        Codec::Speedy => quote_spanned!(span=> ::corewire::codec::Speedy),
        Codec::Raw => quote_spanned!(span=> ::corewire::codec::Raw),
    }
}

/// The same codec as the value that [`codec_type`] is the type of. Here rustc reports a type that it cannot carry.
pub(super) fn carried(codec: Codec, ty: &Type) -> TokenStream {
    let plain = codec_type(codec, ty);
    quote_spanned!(site_of(ty)=> ::corewire::generated::carried::<#plain, #ty>())
}

/// The codec of an argument. Here rustc reports a type that has none.
pub(super) fn argument(ty: &Type) -> TokenStream {
    quote_spanned!(site_of(ty)=> ::corewire::generated::argument::<::corewire::codec::Speedy, #ty>())
}

/// The hash of an argument that is a key. Here rustc reports a type that cannot be one.
pub(super) fn key_hash(key: &Argument<'_>) -> TokenStream {
    let (ident, ty) = (key.ident, key.ty);
    quote_spanned!(site_of(ty)=> ::corewire::key_hash::<#ty>(&#ident))
}

/// Our hygiene at the place of the author's tokens, so that rustc's errors point there.
pub(crate) fn site_of(tokens: &impl Spanned) -> Span {
    Span::mixed_site().located_at(tokens.span())
}
