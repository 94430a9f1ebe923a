//! What structs and enums with data have in common.

use super::parse::Message;
use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::{Generics, parse_quote_spanned};

/// The message's generics, with one trait asked of each parameter.
pub(super) fn bounded(message: &Message, bound: &TokenStream) -> Generics {
    let mut generics = message.generics().clone();
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote_spanned!(Span::mixed_site()=> #bound));
    }
    generics
}

/// speedy's traits, by way of the message's own.
pub(super) fn speedy(message: &Message) -> TokenStream {
    let ident = message.ident();
    let bound = quote_spanned!(Span::mixed_site()=> ::corewire::generated::message::value::Value);
    let generics = bounded(message, &bound);
    let (_, type_generics, conditions) = generics.split_for_impl();
    let mut with_context = generics.clone();
    with_context
        .params
        .push(parse_quote_spanned!(Span::mixed_site()=> C: ::corewire::generated::speedy::Context));
    let (writes, ..) = with_context.split_for_impl();
    let mut with_lifetime = with_context.clone();
    with_lifetime.params.insert(0, parse_quote_spanned!(Span::mixed_site()=> 'speedy));
    let (reads, ..) = with_lifetime.split_for_impl();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl #writes ::corewire::generated::speedy::Writable<C> for #ident #type_generics #conditions {
            #[inline]
            fn write_to<W: ?::core::marker::Sized + ::corewire::generated::speedy::Writer<C>>(
                &self,
                out: &mut W,
            ) -> ::core::result::Result<(), C::Error> {
                <Self as ::corewire::generated::message::value::Value>::write_speedy(self, out)
            }
        }

        #[automatically_derived]
        impl #reads ::corewire::generated::speedy::Readable<'speedy, C> for #ident #type_generics #conditions {
            #[inline]
            fn read_from<R: ::corewire::generated::speedy::Reader<'speedy, C>>(
                input: &mut R,
            ) -> ::core::result::Result<Self, C::Error> {
                <Self as ::corewire::generated::message::value::Value>::read_speedy(input)
            }

            #[inline]
            fn minimum_bytes_needed() -> usize {
                <Self as ::corewire::generated::message::value::Value>::LEAST_BYTES
            }
        }
    }
}

/// `ProtoValue` of a message, by way of its fields.
pub(super) fn proto_value(message: &Message) -> TokenStream {
    let ident = message.ident();
    let bound = quote_spanned! {Span::mixed_site()=>
        ::corewire::generated::message::proto::field::ProtoValue
    };
    let generics = bounded(message, &bound);
    let (impl_generics, type_generics, conditions) = generics.split_for_impl();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl #impl_generics ::corewire::generated::message::proto::field::ProtoValue for #ident #type_generics #conditions {
            const WIRE: ::corewire::generated::message::proto::Wire =
                ::corewire::generated::message::proto::Wire::Length;

            #[inline]
            fn write(&self, out: &mut ::corewire::generated::message::proto::write::Writer<'_>) {
                out.nested(|out| ::corewire::generated::message::proto::field::ProtoMessage::write_fields(self, out));
            }

            #[inline]
            fn read(
                before: ::core::option::Option<Self>,
                input: &mut ::corewire::generated::message::proto::read::Reader<'_>,
            ) -> ::core::result::Result<Self, ::corewire::codec::DecodeError> {
                input.nested(|input| {
                    <Self as ::corewire::generated::message::proto::field::ProtoMessage>::read_fields(before, input)
                })
            }
        }
    }
}

/// How a message is written and read field by field, in either of the codecs that do so.
pub(super) struct Bodies {
    /// Writes `self` to `out`.
    pub(super) write: TokenStream,
    /// Before the first field is read.
    pub(super) begin: TokenStream,
    /// For each field that is known, what reads it.
    pub(super) arms: TokenStream,
    /// What was read.
    pub(super) end: TokenStream,
}

/// `ProtoMessage`: arms match the numbers of fields.
pub(super) fn proto_message(message: &Message, bodies: &Bodies) -> TokenStream {
    let Bodies { write, begin, arms, end } = bodies;
    let ident = message.ident();
    let bound = quote_spanned! {Span::mixed_site()=>
        ::corewire::generated::message::proto::field::ProtoValue
    };
    let generics = bounded(message, &bound);
    let (impl_generics, type_generics, conditions) = generics.split_for_impl();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl #impl_generics ::corewire::generated::message::proto::field::ProtoMessage for #ident #type_generics #conditions {
            fn write_fields(&self, out: &mut ::corewire::generated::message::proto::write::Writer<'_>) {
                #write
            }

            fn read_fields(
                before: ::core::option::Option<Self>,
                input: &mut ::corewire::generated::message::proto::read::Reader<'_>,
            ) -> ::core::result::Result<Self, ::corewire::codec::DecodeError> {
                #begin
                while let ::core::option::Option::Some(tag) = input.tag()? {
                    match tag.number {
                        #arms
                        _ => input.skip(tag)?,
                    }
                }
                #end
            }
        }
    }
}

/// `JsonValue` and `JsonMessage`: arms match the places of `names`.
pub(super) fn json_message(
    message: &Message,
    names: &[TokenStream],
    bodies: &Bodies,
) -> TokenStream {
    let Bodies { write, begin, arms, end } = bodies;
    let (ident, name) = (message.ident(), message.name());
    let bound = quote_spanned! {Span::mixed_site()=>
        ::corewire::generated::message::json::field::JsonValue
    };
    let generics = bounded(message, &bound);
    let (impl_generics, type_generics, conditions) = generics.split_for_impl();
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl #impl_generics ::corewire::generated::message::json::field::JsonValue for #ident #type_generics #conditions {
            fn write(&self, out: &mut ::corewire::generated::message::json::write::Writer<'_>) {
                out.object(|out| { #write });
            }

            fn read<'de, D: ::corewire::generated::serde::Deserializer<'de>>(
                input: D,
            ) -> ::core::result::Result<Self, D::Error> {
                ::corewire::generated::message::json::field::read_message(input)
            }
        }

        #[automatically_derived]
        impl #impl_generics ::corewire::generated::message::json::field::JsonMessage for #ident #type_generics #conditions {
            const NAME: &'static str = #name;

            fn read_fields<'de, M: ::corewire::generated::serde::de::MapAccess<'de>>(
                mut fields: M,
            ) -> ::core::result::Result<Self, M::Error> {
                #begin
                while let ::core::option::Option::Some(at) =
                    ::corewire::generated::message::json::field::next(&mut fields, &[#(#names),*])?
                {
                    match at {
                        #arms
                        _ => ::corewire::generated::message::json::field::skip(&mut fields)?,
                    }
                }
                #end
            }
        }
    }
}

/// The name in the schema: as given, with the names of generic arguments.
pub(super) fn schema_name(message: &Message) -> TokenStream {
    let name = message.name();
    let parameters: Vec<_> = message.generics().type_params().map(|it| &it.ident).collect();
    if parameters.is_empty() {
        return quote_spanned!(Span::mixed_site()=> |_| ::std::borrow::ToOwned::to_owned(#name));
    }
    quote_spanned! {Span::mixed_site()=>
        |schema| {
            let arguments = [#(
                <#parameters as ::corewire::generated::message::value::Value>::describe(schema)
            ),*];
            schema.generic_name(#name, &arguments)
        }
    }
}

/// Says in the schema which numbers no field may have.
pub(super) fn reserve(message: &Message) -> Option<TokenStream> {
    if message.reserved.is_empty() {
        return None;
    }
    let pairs =
        message.reserved.iter().map(|(from, to)| quote_spanned!(Span::mixed_site()=> (#from, #to)));
    Some(quote_spanned!(Span::mixed_site()=> fields.reserve(&[#(#pairs),*]);))
}
