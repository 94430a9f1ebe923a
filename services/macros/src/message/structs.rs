//! The code of a struct.

use super::common::{
    Bodies, bounded, json_message, proto_message, proto_value, reserve, schema_name, speedy,
};
use super::names;
use super::parse::{Field, Message};
use super::shape::Shape;
use crate::expand::site_of;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote_spanned};

/// A field with all that the code needs.
struct Part<'a> {
    ident: &'a Ident,
    /// The variable for what was read of it.
    slot: Ident,
    number: u32,
    name: String,
    json: String,
    shape: Shape<'a>,
    field: &'a Field,
}

pub(super) fn expand(message: &Message, fields: &[Field]) -> TokenStream {
    let parts: Vec<Part<'_>> = fields
        .iter()
        .enumerate()
        .map(|(at, field)| Part {
            ident: &field.ident,
            slot: format_ident!("field_{at}", span = Span::mixed_site()),
            number: field.number(),
            json: names::json(&field.name()),
            name: field.name(),
            shape: Shape::of(&field.ty),
            field,
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

/// Adds a field to the schema.
fn describe(part: &Part<'_>) -> TokenStream {
    let (number, name, json) = (part.number, &part.name, &part.json);
    let span = site_of(&part.field.ty);
    let (method, ty) = match part.shape {
        Shape::Single(ty) => ("single", ty),
        Shape::Optional(ty) => ("optional", ty),
        Shape::List(ty) => ("list", ty),
        Shape::Map(ty, _) => ("map", ty),
    };
    let method = Ident::new(method, span);
    quote_spanned!(span=> fields.#method::<#ty>(#number, [#name, #json]);)
}

fn value(message: &Message, parts: &[Part<'_>]) -> TokenStream {
    let ident = message.ident();
    let bound = quote_spanned!(Span::mixed_site()=> ::corewire::generated::message::value::Value);
    let generics = bounded(message, &bound);
    let (impl_generics, type_generics, conditions) = generics.split_for_impl();
    let least = parts.len().max(1);
    let name = schema_name(message);
    let described = parts.iter().map(describe);
    let reserved = reserve(message);
    let absent = parts.iter().map(|part| {
        let ident = part.ident;
        match part.shape {
            Shape::Single(ty) => quote_spanned! {site_of(ty)=>
                #ident: <#ty as ::corewire::generated::message::value::Value>::absent(depth)?
            },
            _ => quote_spanned!(Span::mixed_site()=> #ident: ::core::default::Default::default()),
        }
    });
    let writes = parts.iter().map(|part| {
        let ident = part.ident;
        let function = match part.shape {
            Shape::Single(_) => quote_spanned!(Span::mixed_site()=> Value::write_speedy),
            Shape::Optional(_) => quote_spanned!(Span::mixed_site()=> write_optional),
            Shape::List(_) => quote_spanned!(Span::mixed_site()=> write_list),
            Shape::Map(..) => quote_spanned!(Span::mixed_site()=> write_map),
        };
        quote_spanned!(Span::mixed_site()=> ::corewire::generated::message::value::#function(&self.#ident, out)?;)
    });
    let reads = parts.iter().map(|part| {
        let ident = part.ident;
        let function = match part.shape {
            Shape::Single(_) => quote_spanned!(Span::mixed_site()=> Value::read_speedy),
            Shape::Optional(_) => quote_spanned!(Span::mixed_site()=> read_optional),
            Shape::List(_) => quote_spanned!(Span::mixed_site()=> read_list),
            Shape::Map(..) => quote_spanned!(Span::mixed_site()=> read_map),
        };
        quote_spanned!(Span::mixed_site()=> #ident: ::corewire::generated::message::value::#function(input)?)
    });
    // Without fields it would take no bytes, and a few bytes could promise any number of them.
    let (write_empty, read_empty) = match parts {
        [] => (
            Some(quote_spanned!(Span::mixed_site()=> out.write_u8(0)?;)),
            Some(quote_spanned!(Span::mixed_site()=> input.read_u8()?;)),
        ),
        _ => (None, None),
    };
    let enter = parts.iter().any(|part| part.shape.may_nest()).then(|| {
        quote_spanned! {Span::mixed_site()=>
            let _nested = ::corewire::generated::message::value::enter::<C>()?;
        }
    });
    let error = quote_spanned!(Span::mixed_site()=> ::core::result::Result);
    quote_spanned! {Span::mixed_site()=>
        #[automatically_derived]
        impl #impl_generics ::corewire::generated::message::value::Value for #ident #type_generics #conditions {
            const LEAST_BYTES: usize = #least;

            fn describe(
                schema: &mut ::corewire::generated::message::schema::Schema,
            ) -> ::corewire::generated::message::schema::Type {
                schema.message::<Self>(#name, |fields| {
                    #(#described)*
                    #reserved
                    let _ = fields;
                })
            }

            fn absent(depth: u32) -> ::core::option::Option<Self> {
                let depth = depth.checked_sub(1)?;
                let _ = depth;
                ::core::option::Option::Some(Self { #(#absent),* })
            }

            #[inline]
            fn is_absent(&self) -> bool {
                false
            }

            #[inline]
            fn write_speedy<C: ::corewire::generated::speedy::Context, W: ?::core::marker::Sized + ::corewire::generated::speedy::Writer<C>>(
                &self,
                out: &mut W,
            ) -> #error<(), C::Error> {
                #enter
                #(#writes)*
                #write_empty
                #error::Ok(())
            }

            #[inline]
            fn read_speedy<'speedy, C: ::corewire::generated::speedy::Context, R: ::corewire::generated::speedy::Reader<'speedy, C>>(
                input: &mut R,
            ) -> #error<Self, C::Error> {
                #enter
                #read_empty
                #error::Ok(Self { #(#reads),* })
            }
        }
    }
}

/// The function of a codec for the shape: `write_list`, `read_list`.
fn function(verb: &str, part: &Part<'_>) -> Ident {
    let shape = match (&part.shape, verb) {
        (Shape::Single(_) | Shape::Optional(_), "read") => "one",
        (Shape::Single(_), _) => "single",
        (Shape::Optional(_), _) => "optional",
        (Shape::List(_), _) => "list",
        (Shape::Map(..), _) => "map",
    };
    format_ident!("{verb}_{shape}", span = Span::mixed_site())
}

fn proto(message: &Message, parts: &[Part<'_>]) -> TokenStream {
    let writes = parts.iter().map(|part| {
        let (ident, number, write) = (part.ident, part.number, function("write", part));
        quote_spanned!(Span::mixed_site()=> ::corewire::generated::message::proto::field::#write(#number, &self.#ident, out);)
    });
    let slots: Vec<_> = parts.iter().map(|part| &part.slot).collect();
    let taken = parts.iter().map(|part| {
        let ident = part.ident;
        match part.shape {
            Shape::Single(_) => {
                quote_spanned!(Span::mixed_site()=> ::core::option::Option::Some(before.#ident))
            }
            _ => quote_spanned!(Span::mixed_site()=> before.#ident),
        }
    });
    let empty = parts
        .iter()
        .map(|_| quote_spanned!(Span::mixed_site()=> ::core::default::Default::default()));
    let arms = parts.iter().map(|part| {
        let (number, name, slot, read) = (part.number, &part.name, &part.slot, function("read", part));
        quote_spanned! {Span::mixed_site()=>
            #number => ::corewire::generated::message::proto::field::#read(&mut #slot, #name, tag, input)?
        }
    });
    let finished = parts.iter().map(|part| {
        let (ident, slot, name) = (part.ident, &part.slot, &part.name);
        match part.shape {
            Shape::Single(_) => quote_spanned! {Span::mixed_site()=>
                #ident: ::corewire::generated::message::proto::field::finish(#slot, #name, input)?
            },
            _ => quote_spanned!(Span::mixed_site()=> #ident: #slot),
        }
    });
    let bodies = Bodies {
        write: quote_spanned!(Span::mixed_site()=> let _ = &out; #(#writes)*),
        begin: quote_spanned! {Span::mixed_site()=>
            #[allow(unused_mut, unused_variables, reason = "a message without fields")]
            let (#(mut #slots,)*) = match before {
                ::core::option::Option::Some(before) => (#(#taken,)*),
                ::core::option::Option::None => (#(#empty,)*),
            };
        },
        arms: quote_spanned!(Span::mixed_site()=> #(#arms,)*),
        end: quote_spanned!(Span::mixed_site()=> ::core::result::Result::Ok(Self { #(#finished),* })),
    };
    proto_message(message, &bodies)
}

fn json(message: &Message, parts: &[Part<'_>]) -> TokenStream {
    let writes = parts.iter().map(|part| {
        let (ident, json, write) = (part.ident, &part.json, function("write", part));
        quote_spanned!(Span::mixed_site()=> ::corewire::generated::message::json::field::#write(#json, &self.#ident, out);)
    });
    let names: Vec<_> = parts
        .iter()
        .map(|part| {
            let (json, name) = (&part.json, &part.name);
            quote_spanned!(Span::mixed_site()=> [#json, #name])
        })
        .collect();
    let slots: Vec<_> = parts.iter().map(|part| &part.slot).collect();
    let arms = parts.iter().enumerate().map(|(at, part)| {
        let (name, slot, read) = (&part.name, &part.slot, function("read", part));
        quote_spanned! {Span::mixed_site()=>
            #at => ::corewire::generated::message::json::field::#read(&mut #slot, #name, &mut fields)?
        }
    });
    let finished = parts.iter().map(|part| {
        let (ident, slot, name) = (part.ident, &part.slot, &part.name);
        match part.shape {
            Shape::Single(_) => quote_spanned! {Span::mixed_site()=>
                #ident: ::corewire::generated::message::json::field::finish(#slot, #name)?
            },
            Shape::Optional(_) => quote_spanned!(Span::mixed_site()=> #ident: #slot.into_value()),
            _ => {
                quote_spanned!(Span::mixed_site()=> #ident: #slot.into_value().unwrap_or_default())
            }
        }
    });
    let bodies = Bodies {
        write: quote_spanned!(Span::mixed_site()=> let _ = &out; #(#writes)*),
        begin: quote_spanned! {Span::mixed_site()=>
            #(let mut #slots = ::corewire::generated::message::json::field::Slot::empty();)*
        },
        arms: quote_spanned!(Span::mixed_site()=> #(#arms,)*),
        end: quote_spanned!(Span::mixed_site()=> ::core::result::Result::Ok(Self { #(#finished),* })),
    };
    json_message(message, &names, &bodies)
}
