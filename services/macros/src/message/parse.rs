//! Reads the attribute and the item into plain structs, with the macro's own attributes taken off.

use crate::errors::Errors;
use crate::names::plain;
use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{
    Attribute, Fields, Generics, Ident, Item, LitInt, LitStr, Path, Token, Type, parenthesized,
};

/// A struct or enum under `#[corewire::message]`.
pub(crate) struct Message {
    /// The name given in the attribute.
    pub(super) given_name: Option<LitStr>,
    /// What `corewire` is called here, given by `crate = …`.
    pub(super) corewire: Option<Path>,
    /// Numbers that no field may have, from and to.
    pub(super) reserved: Vec<(u32, u32)>,
    /// The item without the macro's own attributes.
    pub(super) item: Item,
    pub(super) body: Body,
}

pub(super) enum Body {
    Struct(Vec<Field>),
    Enum(Vec<Variant>),
}

/// The number of a field, with its place in the source.
pub(super) struct Id {
    pub(super) number: u32,
    pub(super) name: Option<LitStr>,
    pub(super) span: Span,
    /// Whether it could not be read, which has been reported.
    pub(super) is_faulty: bool,
}

/// A field of a struct.
pub(super) struct Field {
    pub(super) ident: Ident,
    pub(super) ty: Type,
    pub(super) id: Option<Id>,
}

impl Field {
    /// The name in the schema.
    pub(super) fn name(&self) -> String {
        let given = self.id.as_ref().and_then(|id| id.name.as_ref());
        given.map_or_else(|| plain(&self.ident), LitStr::value)
    }

    pub(super) fn number(&self) -> u32 {
        self.id.as_ref().map_or(0, |id| id.number)
    }
}

/// A variant of an enum.
pub(super) struct Variant {
    pub(super) ident: Ident,
    /// What it holds, if that is one value without a name.
    pub(super) ty: Option<Type>,
    /// What it holds otherwise.
    pub(super) other: Option<Span>,
    pub(super) id: Option<Id>,
    /// Where `#[unknown]` is, if it is there.
    pub(super) unknown: Option<Span>,
}

impl Variant {
    pub(super) fn number(&self) -> u32 {
        self.id.as_ref().map_or(0, |id| id.number)
    }

    /// The name given by `#[id(n, name = "…")]`, or what `make` makes of Rust's.
    pub(super) fn name(&self, make: impl FnOnce(&str) -> String) -> String {
        let given = self.id.as_ref().and_then(|id| id.name.as_ref());
        given.map_or_else(|| make(&plain(&self.ident)), LitStr::value)
    }
}

impl Message {
    pub(super) fn ident(&self) -> &Ident {
        match &self.item {
            Item::Struct(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            _ => unreachable!("`message` takes structs and enums only"),
        }
    }

    pub(super) fn generics(&self) -> &Generics {
        match &self.item {
            Item::Struct(item) => &item.generics,
            Item::Enum(item) => &item.generics,
            _ => unreachable!("`message` takes structs and enums only"),
        }
    }

    /// The name in the schema.
    pub(super) fn name(&self) -> String {
        self.given_name.as_ref().map_or_else(|| plain(self.ident()), LitStr::value)
    }
}

/// Reads both inputs of the macro. `None` when the item is neither a struct nor an enum, which has then been reported.
pub(super) fn message(
    attribute: TokenStream,
    item: TokenStream,
    errors: &mut Errors,
) -> Option<Message> {
    let mut item = match syn::parse2::<Item>(item) {
        Ok(item) => item,
        Err(error) => {
            errors.push(error);
            return None;
        }
    };
    let body = match &mut item {
        Item::Struct(item) => Body::Struct(fields(&mut item.fields, errors)),
        Item::Enum(item) => {
            Body::Enum(item.variants.iter_mut().map(|it| variant(it, errors)).collect())
        }
        other => {
            errors.on(
                other,
                "`#[corewire::message]` describes data; put it on a `struct` or an `enum`",
            );
            return None;
        }
    };
    let mut message =
        Message { given_name: None, corewire: None, reserved: Vec::new(), item, body };
    if let Err(error) = (|input: ParseStream<'_>| options(input, &mut message)).parse2(attribute) {
        errors.push(error);
    }
    Some(message)
}

fn options(input: ParseStream<'_>, message: &mut Message) -> syn::Result<()> {
    while !input.is_empty() {
        let option = input.call(Ident::parse_any)?;
        if option == "name" {
            input.parse::<Token![=]>()?;
            message.given_name = Some(input.parse()?);
        } else if option == "crate" {
            input.parse::<Token![=]>()?;
            message.corewire = Some(input.call(Path::parse_mod_style)?);
        } else if option == "reserved" {
            let numbers;
            parenthesized!(numbers in input);
            while !numbers.is_empty() {
                let from = numbers.parse::<LitInt>()?.base10_parse()?;
                let to = if numbers.peek(Token![..=]) {
                    numbers.parse::<Token![..=]>()?;
                    numbers.parse::<LitInt>()?.base10_parse()?
                } else {
                    from
                };
                message.reserved.push((from, to));
                if !numbers.is_empty() {
                    numbers.parse::<Token![,]>()?;
                }
            }
        } else {
            return Err(syn::Error::new(
                option.span(),
                "the options of a message are `name = \"package.Name\"`, `reserved(3, 5..=7)` and `crate = path`",
            ));
        }
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

fn fields(fields: &mut Fields, errors: &mut Errors) -> Vec<Field> {
    match fields {
        Fields::Unit => Vec::new(),
        Fields::Unnamed(unnamed) => {
            errors.on(
                &*unnamed,
                "the fields of a message have names; write `struct Name { #[id(1)] field: … }`",
            );
            for field in &mut unnamed.unnamed {
                drop(take(&mut field.attrs, errors));
            }
            Vec::new()
        }
        Fields::Named(named) => {
            let fields = named.named.iter_mut().filter_map(|field| {
                let (id, unknown) = take(&mut field.attrs, errors);
                if let Some(unknown) = unknown {
                    errors.at(unknown, "`#[unknown]` stands on a variant of an enum");
                }
                Some(Field { ident: field.ident.clone()?, ty: field.ty.clone(), id })
            });
            fields.collect()
        }
    }
}

fn variant(variant: &mut syn::Variant, errors: &mut Errors) -> Variant {
    let (id, unknown) = take(&mut variant.attrs, errors);
    let (mut ty, mut other) = (None, None);
    match &mut variant.fields {
        Fields::Unit => {}
        Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 => {
            for field in &mut unnamed.unnamed {
                drop(take(&mut field.attrs, errors));
                ty = Some(field.ty.clone());
            }
        }
        fields => {
            other = Some(fields.span());
            for field in fields {
                drop(take(&mut field.attrs, errors));
            }
        }
    }
    Variant { ident: variant.ident.clone(), ty, other, id, unknown }
}

/// Takes the macro's own attributes off: the number, and where `#[unknown]` is.
fn take(attributes: &mut Vec<Attribute>, errors: &mut Errors) -> (Option<Id>, Option<Span>) {
    let (mut id, mut unknown) = (None, None);
    attributes.retain(|attribute| {
        if attribute.path().is_ident("unknown") {
            unknown = Some(attribute.span());
        } else if attribute.path().is_ident("id") {
            match attribute.parse_args_with(parse_id) {
                Ok(read) if id.is_none() => id = Some(read),
                Ok(_) => errors.on(attribute, "a field has one number"),
                Err(error) => {
                    // The field has a number, which is at fault, and is not to be reported as missing, too.
                    id =
                        Some(Id { number: 0, name: None, span: attribute.span(), is_faulty: true });
                    errors.push(error);
                }
            }
        } else {
            return true;
        }
        false
    });
    (id, unknown)
}

fn parse_id(input: ParseStream<'_>) -> syn::Result<Id> {
    let number: LitInt = input.parse()?;
    let mut id =
        Id { number: number.base10_parse()?, name: None, span: number.span(), is_faulty: false };
    while !input.is_empty() {
        input.parse::<Token![,]>()?;
        if input.is_empty() {
            break;
        }
        let option: Ident = input.parse()?;
        if option != "name" {
            return Err(syn::Error::new(
                option.span(),
                "behind the number there may be a name: `#[id(1, name = \"…\")]`",
            ));
        }
        input.parse::<Token![=]>()?;
        id.name = Some(input.parse()?);
    }
    Ok(id)
}
