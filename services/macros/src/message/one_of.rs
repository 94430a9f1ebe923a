//! The code of an enum with data: a message of which exactly one field is there.

use super::common::{
    Bodies, bounded, json_message, proto_message, proto_value, reserve, schema_name, speedy,
};
use super::names;
use super::parse::{Message, Variant};
use crate::expand::site_of;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use syn::Type;

struct Part<'a> {
    ident: &'a Ident,
    ty: Option<&'a Type>,
    number: u32,
    name: String,
    json: String,
}

pub(super) fn expand(message: &Message, variants: &[Variant]) -> TokenStream {
    let parts: Vec<Part<'_>> = variants
        .iter()
        .map(|it| {
            let name = it.name(names::snake);
            let json = names::json(&name);
            Part { ident: &it.ident, ty: it.ty.as_ref(), number: it.number(), name, json }
        })
        .collect();
    let mut tokens = value(message, &parts);
    tokens.extend(speedy(message));
    if cfg!(feature = "protobuf") {
        tokens.extend(proto_value(message));
        tokens.extend(proto(message, &parts));
    }
    if cfg!(feature = "json") {
        tokens.extend(json(message, &parts));
    }
    tokens
}

fn value(message: &Message, parts: &[Part<'_>]) -> TokenStream {
    let ident = message.ident();
    let bound = quote_spanned!(Span::mixed_site()=> ::corewire::generated::message::value::Value);
    let generics = bounded(message, &bound);
    let (impl_generics, type_generics, conditions) = generics.split_for_impl();
    let name = schema_name(message);
    let text = message.name();
    let described = parts.iter().map(|Part { ty, number, name, json, .. }| match ty {
        Some(ty) => quote_spanned!(site_of(ty)=> fields.single::<#ty>(#number, [#name, #json]);),
        None => quote_spanned!(Span::mixed_site()=> fields.unit(#number, [#name, #json]);),
    });
    let reserved = reserve(message);
    let writes = parts.iter().map(|Part { ident, ty, number, .. }| match ty {
        Some(_) => quote_spanned! {Span::mixed_site()=>
            Self::#ident(value) => {
                out.write_u32(#number)?;
                ::corewire::generated::message::value::Value::write_speedy(value, out)
            }
        },
        None => quote_spanned!(Span::mixed_site()=> Self::#ident => out.write_u32(#number),),
    });
    let reads = parts.iter().map(|Part { ident, ty, number, .. }| match ty {
        Some(_) => quote_spanned! {Span::mixed_site()=>
            #number => ::corewire::generated::message::value::Value::read_speedy(input).map(Self::#ident),
        },
        None => quote_spanned!(Span::mixed_site()=> #number => ::core::result::Result::Ok(Self::#ident),),
    });
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl #impl_generics ::corewire::generated::message::value::Value for #ident #type_generics #conditions {
            const LEAST_BYTES: usize = 4;

            fn describe(
                schema: &mut ::corewire::generated::message::schema::Schema,
            ) -> ::corewire::generated::message::schema::Type {
                schema.message::<Self>(#name, |fields| {
                    fields.one_of();
                    #(#described)*
                    #reserved
                })
            }

            fn absent(_: u32) -> ::core::option::Option<Self> {
                ::core::option::Option::None
            }

            #[inline]
            fn is_absent(&self) -> bool {
                false
            }

            #[inline]
            fn write_speedy<C: ::corewire::generated::speedy::Context, W: ?::core::marker::Sized + ::corewire::generated::speedy::Writer<C>>(
                &self,
                out: &mut W,
            ) -> ::core::result::Result<(), C::Error> {
                let _nested = ::corewire::generated::message::value::enter::<C>()?;
                match self { #(#writes)* }
            }

            #[inline]
            fn read_speedy<'speedy, C: ::corewire::generated::speedy::Context, R: ::corewire::generated::speedy::Reader<'speedy, C>>(
                input: &mut R,
            ) -> ::core::result::Result<Self, C::Error> {
                let _nested = ::corewire::generated::message::value::enter::<C>()?;
                match input.read_u32()? {
                    #(#reads)*
                    number => ::core::result::Result::Err(::core::convert::Into::into(
                        ::corewire::generated::message::value::unknown_number(number, #text),
                    )),
                }
            }
        }
    }
}

fn proto(message: &Message, parts: &[Part<'_>]) -> TokenStream {
    let text = message.name();
    let writes = parts.iter().map(|Part { ident, ty, number, .. }| match ty {
        Some(_) => quote_spanned! {Span::mixed_site()=>
            Self::#ident(value) => ::corewire::generated::message::proto::field::write_always(#number, value, out),
        },
        None => quote_spanned! {Span::mixed_site()=>
            Self::#ident => ::corewire::generated::message::proto::field::write_unit(#number, out),
        },
    });
    let reads = parts.iter().map(|Part { ident, ty, number, name, .. }| match ty {
        Some(_) => quote_spanned! {Span::mixed_site()=>
            #number => {
                #[allow(unreachable_patterns, reason = "an enum of one variant")]
                let mut value = match read.take() {
                    ::core::option::Option::Some(Self::#ident(value)) => ::core::option::Option::Some(value),
                    _ => ::core::option::Option::None,
                };
                ::corewire::generated::message::proto::field::read_one(&mut value, #name, tag, input)?;
                read = value.map(Self::#ident);
            }
        },
        None => quote_spanned! {Span::mixed_site()=>
            #number => {
                ::corewire::generated::message::proto::field::read_unit(#name, tag, input)?;
                read = ::core::option::Option::Some(Self::#ident);
            }
        },
    });
    let bodies = Bodies {
        write: quote_spanned!(Span::mixed_site()=> match self { #(#writes)* }),
        begin: quote_spanned!(Span::mixed_site()=> let mut read = before;),
        arms: quote_spanned!(Span::mixed_site()=> #(#reads)*),
        end: quote_spanned!(Span::mixed_site()=> read.ok_or_else(|| ::corewire::generated::message::proto::field::no_variant(#text))),
    };
    proto_message(message, &bodies)
}

fn json(message: &Message, parts: &[Part<'_>]) -> TokenStream {
    let text = message.name();
    let writes = parts.iter().map(|Part { ident, ty, json, .. }| match ty {
        Some(_) => quote_spanned! {Span::mixed_site()=>
            Self::#ident(value) => ::corewire::generated::message::json::field::write_always(#json, value, out),
        },
        None => quote_spanned! {Span::mixed_site()=>
            Self::#ident => ::corewire::generated::message::json::field::write_unit(#json, out),
        },
    });
    let names: Vec<_> = parts
        .iter()
        .map(|Part { name, json, .. }| quote_spanned!(Span::mixed_site()=> [#json, #name]))
        .collect();
    let reads = parts.iter().enumerate().map(|(at, Part { ident, ty, name, .. })| {
        let (read, variant) = match ty {
            Some(_) => (
                quote_spanned!(Span::mixed_site()=> read_one),
                quote_spanned!(Span::mixed_site()=> Self::#ident(value)),
            ),
            None => (
                quote_spanned!(Span::mixed_site()=> read_unit),
                quote_spanned!(Span::mixed_site()=> { let () = value; Self::#ident }),
            ),
        };
        quote_spanned! {Span::mixed_site()=>
            #at => {
                let mut slot = ::corewire::generated::message::json::field::Slot::empty();
                ::corewire::generated::message::json::field::#read(&mut slot, #name, &mut fields)?;
                if let ::core::option::Option::Some(value) = slot.into_value() {
                    ::corewire::generated::message::json::field::set_variant(&mut read, #variant, #text)?;
                }
            }
        }
    });
    let bodies = Bodies {
        write: quote_spanned!(Span::mixed_site()=> match self { #(#writes)* }),
        begin: quote_spanned!(Span::mixed_site()=> let mut read = ::core::option::Option::None;),
        arms: quote_spanned!(Span::mixed_site()=> #(#reads)*),
        end: quote_spanned!(Span::mixed_site()=> read.ok_or_else(|| ::corewire::generated::message::json::field::no_variant(#text))),
    };
    json_message(message, &names, &bodies)
}
