//! The code of an enum without data.

use super::common::speedy;
use super::names;
use super::parse::{Message, Variant};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;

struct Plain<'a> {
    name: String,
    idents: Vec<&'a Ident>,
    numbers: Vec<u32>,
    texts: Vec<String>,
    unknown: Option<&'a Ident>,
}

pub(super) fn expand(message: &Message, variants: &[Variant]) -> TokenStream {
    let of = message.ident().to_string();
    let known: Vec<_> = variants.iter().filter(|it| it.unknown.is_none()).collect();
    let plain = Plain {
        name: message.name(),
        idents: known.iter().map(|it| &it.ident).collect(),
        numbers: known.iter().map(|it| it.number()).collect(),
        texts: known.iter().map(|it| it.name(|name| names::value(&of, name))).collect(),
        unknown: variants.iter().find(|it| it.unknown.is_some()).map(|it| &it.ident),
    };
    let mut tokens = value(message.ident(), &plain);
    tokens.extend(speedy(message));
    if cfg!(feature = "protobuf") {
        tokens.extend(proto(message.ident(), &plain));
    }
    if cfg!(feature = "json") {
        tokens.extend(json(message.ident(), &plain));
    }
    tokens
}

/// Numbers as `i32`, as protobuf has them.
fn signed(numbers: &[u32]) -> Vec<i32> {
    numbers.iter().map(|&number| i32::try_from(number).unwrap_or(i32::MAX)).collect()
}

fn value(ident: &Ident, plain: &Plain<'_>) -> TokenStream {
    let Plain { name, idents, numbers, texts, unknown } = plain;
    let keeps_unknown = unknown.is_some();
    let zero = idents.iter().zip(numbers).find(|(_, number)| **number == 0).map(|(ident, _)| ident);
    let writes_unknown = unknown.map(
        |it| quote_spanned!(Span::mixed_site()=> Self::#it(number) => number.cast_unsigned(),),
    );
    let reads_unknown = match unknown {
        Some(it) => quote_spanned! {Span::mixed_site()=>
            ::core::result::Result::Ok(Self::#it(number.cast_signed()))
        },
        None => quote_spanned! {Span::mixed_site()=>
            ::core::result::Result::Err(::core::convert::Into::into(
                ::corewire::generated::message::value::unknown_number(number, #name),
            ))
        },
    };
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl ::corewire::generated::message::value::Value for #ident {
            const LEAST_BYTES: usize = 4;

            fn describe(
                schema: &mut ::corewire::generated::message::schema::Schema,
            ) -> ::corewire::generated::message::schema::Type {
                schema.enumeration::<Self>(#name, &[#((#numbers, #texts)),*], #keeps_unknown)
            }

            fn absent(_: u32) -> ::core::option::Option<Self> {
                ::core::option::Option::Some(Self::#zero)
            }

            #[inline]
            fn is_absent(&self) -> bool {
                ::core::matches!(self, Self::#zero)
            }

            #[inline]
            fn write_speedy<C: ::corewire::generated::speedy::Context, W: ?::core::marker::Sized + ::corewire::generated::speedy::Writer<C>>(
                &self,
                out: &mut W,
            ) -> ::core::result::Result<(), C::Error> {
                out.write_u32(match self {
                    #(Self::#idents => #numbers,)*
                    #writes_unknown
                })
            }

            #[inline]
            fn read_speedy<'speedy, C: ::corewire::generated::speedy::Context, R: ::corewire::generated::speedy::Reader<'speedy, C>>(
                input: &mut R,
            ) -> ::core::result::Result<Self, C::Error> {
                match input.read_u32()? {
                    #(#numbers => ::core::result::Result::Ok(Self::#idents),)*
                    number => #reads_unknown,
                }
            }
        }
    }
}

fn proto(ident: &Ident, plain: &Plain<'_>) -> TokenStream {
    let Plain { name, idents, numbers, unknown, .. } = plain;
    let numbers = signed(numbers);
    let writes_unknown =
        unknown.map(|it| quote_spanned!(Span::mixed_site()=> Self::#it(number) => *number,));
    let reads_unknown = match unknown {
        Some(it) => {
            quote_spanned!(Span::mixed_site()=> ::core::result::Result::Ok(Self::#it(number)))
        }
        None => quote_spanned! {Span::mixed_site()=>
            ::core::result::Result::Err(
                ::corewire::generated::message::proto::field::unknown_number(::core::convert::Into::into(number), #name),
            )
        },
    };
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl ::corewire::generated::message::proto::field::ProtoValue for #ident {
            const WIRE: ::corewire::generated::message::proto::Wire =
                ::corewire::generated::message::proto::Wire::Varint;

            #[inline]
            fn write(&self, out: &mut ::corewire::generated::message::proto::write::Writer<'_>) {
                let number: i32 = match self {
                    #(Self::#idents => #numbers,)*
                    #writes_unknown
                };
                ::corewire::generated::message::proto::field::ProtoValue::write(&number, out);
            }

            #[inline]
            fn read(
                _: ::core::option::Option<Self>,
                input: &mut ::corewire::generated::message::proto::read::Reader<'_>,
            ) -> ::core::result::Result<Self, ::corewire::codec::DecodeError> {
                let number = <i32 as ::corewire::generated::message::proto::field::ProtoValue>::read(
                    ::core::option::Option::None,
                    input,
                )?;
                match number {
                    #(#numbers => ::core::result::Result::Ok(Self::#idents),)*
                    number => #reads_unknown,
                }
            }
        }
    }
}

fn json(ident: &Ident, plain: &Plain<'_>) -> TokenStream {
    let Plain { name, idents, numbers, texts, unknown } = plain;
    let signed = signed(numbers);
    let writes_unknown = unknown
        .map(|it| quote_spanned!(Span::mixed_site()=> Self::#it(number) => out.word(number),));
    let refused = quote_spanned! {Span::mixed_site()=>
        ::core::result::Result::Err(
            ::corewire::generated::message::json::field::unknown_number(number, #name),
        )
    };
    let reads_unknown = match unknown {
        Some(it) => quote_spanned! {Span::mixed_site()=>
            match ::core::convert::TryFrom::try_from(number) {
                ::core::result::Result::Ok(number) => ::core::result::Result::Ok(Self::#it(number)),
                ::core::result::Result::Err(_) => #refused,
            }
        },
        None => refused,
    };
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl ::corewire::generated::message::json::field::JsonValue for #ident {
            fn write(&self, out: &mut ::corewire::generated::message::json::write::Writer<'_>) {
                match self {
                    #(Self::#idents => out.text(#texts),)*
                    #writes_unknown
                }
            }

            fn read<'de, D: ::corewire::generated::serde::Deserializer<'de>>(
                input: D,
            ) -> ::core::result::Result<Self, D::Error> {
                let number = ::corewire::generated::message::json::field::read_enum(
                    &[#((#numbers, #texts)),*],
                    input,
                )?;
                let known: ::core::result::Result<i32, _> = ::core::convert::TryFrom::try_from(number);
                match known {
                    #(::core::result::Result::Ok(#signed) => ::core::result::Result::Ok(Self::#idents),)*
                    _ => #reads_unknown,
                }
            }
        }
    }
}
