//! The rules of a message. Each broken one is reported at its token.

use super::names;
use super::parse::{Body, Field, Id, Message, Variant};
use super::shape;
use crate::errors::Errors;
use proc_macro2::Span;
use std::collections::{HashMap, HashSet};
use syn::{GenericParam, LitStr};

/// The highest number of a field.
const NUMBER_MAX: u32 = (1 << 29) - 1;
/// Numbers that protobuf keeps for itself.
const PROTOBUF_OWN: std::ops::RangeInclusive<u32> = 19_000..=19_999;

/// Whether any variant of an enum holds something.
pub(super) fn has_data(variants: &[Variant]) -> bool {
    variants.iter().any(|it| it.unknown.is_none() && (it.ty.is_some() || it.other.is_some()))
}

pub(super) fn message(message: &Message, errors: &mut Errors) {
    if let Some(name) = &message.given_name
        && let Some(fault) = names::message_fault(&name.value())
    {
        errors.on(name, fault);
    }
    for parameter in &message.generics().params {
        if !matches!(parameter, GenericParam::Type(_)) {
            errors.on(parameter, "a message may have type parameters only");
        }
    }
    match &message.body {
        Body::Struct(fields) => fields_of(message, fields, errors),
        Body::Enum(variants) if has_data(variants) => one_of(message, variants, errors),
        Body::Enum(variants) => plain_enum(message, variants, errors),
    }
}

fn fields_of(message: &Message, fields: &[Field], errors: &mut Errors) {
    let ids = fields.iter().map(|field| (&field.ident, field.id.as_ref()));
    numbers(message, "field", 1, ids, errors);
    let names =
        fields.iter().map(|field| (field.name(), given(field.id.as_ref()), field.ident.span()));
    texts(names, names::json, errors);
    for field in fields {
        shape::check(&field.ty, errors);
    }
}

fn one_of(message: &Message, variants: &[Variant], errors: &mut Errors) {
    let ids = variants.iter().map(|it| (&it.ident, it.id.as_ref()));
    numbers(message, "variant", 1, ids, errors);
    let names =
        variants.iter().map(|it| (it.name(names::snake), given(it.id.as_ref()), it.ident.span()));
    texts(names, names::json, errors);
    for variant in variants {
        if let Some(other) = variant.other {
            errors.at(
                other,
                "a variant holds one value without a name: make what it holds a message, and write `Variant(Message)`",
            );
        }
        if let Some(unknown) = variant.unknown {
            errors.at(unknown, "an enum with data cannot keep variants that it does not know");
        }
        match &variant.ty {
            Some(ty) if !matches!(shape::Shape::of(ty), shape::Shape::Single(_)) => {
                errors.on(
                    ty,
                    "a variant holds one value; make a list, map or `Option` a message of its own",
                );
            }
            Some(ty) => shape::check(ty, errors),
            None => {}
        }
    }
}

fn plain_enum(message: &Message, variants: &[Variant], errors: &mut Errors) {
    let known: Vec<_> = variants.iter().filter(|it| it.unknown.is_none()).collect();
    let ids = known.iter().map(|it| (&it.ident, it.id.as_ref()));
    numbers(message, "value", 0, ids, errors);
    let of = message.ident().to_string();
    let names = known.iter().map(|it| {
        (it.name(|name| names::value(&of, name)), given(it.id.as_ref()), it.ident.span())
    });
    texts(names, str::to_owned, errors);
    for parameter in &message.generics().params {
        errors.on(parameter, "an enum without data has no type parameters");
    }
    if known.iter().all(|it| it.id.as_ref().is_some_and(|id| id.number != 0)) {
        errors.on(
            message.ident(),
            "one value has the number 0: it stands for one that was not sent; write `#[id(0)]` before it",
        );
    }
    for (at, variant) in variants.iter().filter(|it| it.unknown.is_some()).enumerate() {
        let is_i32 = variant.ty.as_ref().is_some_and(|ty| crate::names::type_text(ty) == "i32");
        if !is_i32 {
            errors.on(
                &variant.ident,
                "the variant for unknown numbers holds them: `#[unknown] Unknown(i32)`",
            );
        }
        if let Some(id) = &variant.id {
            errors.at(id.span, "the variant for unknown numbers has no number of its own");
        }
        if at > 0 {
            errors.on(&variant.ident, "there is one variant for unknown numbers");
        }
    }
}

/// Reports numbers that are missing, twice there, reserved or out of range.
fn numbers<'a>(
    message: &Message,
    what: &str,
    least: u32,
    ids: impl Iterator<Item = (&'a syn::Ident, Option<&'a Id>)>,
    errors: &mut Errors,
) {
    let mut taken = HashMap::new();
    for (ident, id) in ids {
        let Some(id) = id else {
            errors.on(
                ident,
                format!("the {what} `{ident}` has no number: write `#[id(n)]` before it, with a number that no other {what} has or had"),
            );
            continue;
        };
        if id.is_faulty {
            continue;
        }
        if id.number == 0 && least > 0 {
            errors
                .at(id.span, format!("the number of a {what} is between {least} and {NUMBER_MAX}"));
            continue;
        }
        if id.number > NUMBER_MAX {
            errors
                .at(id.span, format!("the number of a {what} is between {least} and {NUMBER_MAX}"));
        }
        if least > 0 && PROTOBUF_OWN.contains(&id.number) {
            errors.at(id.span, "protobuf keeps the numbers 19000 to 19999 for itself");
        }
        if message.reserved.iter().any(|&(from, to)| (from..=to).contains(&id.number)) {
            errors.at(
                id.span,
                format!("the number {} is reserved; take one that was never used", id.number),
            );
        }
        if let Some(first) = taken.insert(id.number, ident) {
            errors.at(id.span, format!("the number {} is that of `{first}`", id.number));
        }
    }
}

fn given(id: Option<&Id>) -> Option<&LitStr> {
    id.and_then(|id| id.name.as_ref())
}

/// Reports names that protobuf does not take, or that are the same in JSON.
fn texts<'a>(
    names: impl Iterator<Item = (String, Option<&'a LitStr>, Span)>,
    json: impl Fn(&str) -> String,
    errors: &mut Errors,
) {
    let mut taken = HashSet::new();
    for (name, given, span) in names {
        let span = given.map_or(span, LitStr::span);
        if let Some(fault) = names::field_fault(&name) {
            errors.at(span, fault);
        } else if !taken.insert(json(&name)) {
            errors.at(span, format!("another one is called `{}` in JSON, too", json(&name)));
        }
    }
}
