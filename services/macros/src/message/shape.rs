//! What a field's type means, by its spelling: one value, one or none, a list, or a map.

use crate::errors::Errors;
use crate::names::type_text;
use syn::{GenericArgument, PathArguments, PathSegment, Type};

/// A field's type.
pub(super) enum Shape<'a> {
    Single(&'a Type),
    Optional(&'a Type),
    List(&'a Type),
    /// The whole type; key and value.
    Map(&'a Type, [&'a Type; 2]),
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// The types in the angle brackets.
fn arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(list) = &segment.arguments else { return Vec::new() };
    let types = list.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

fn is_u8(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|it| it.ident == "u8")
}

impl<'a> Shape<'a> {
    pub(super) fn of(ty: &'a Type) -> Self {
        let Some(segment) = last_segment(ty) else { return Self::Single(ty) };
        match (segment.ident.to_string().as_str(), arguments(segment).as_slice()) {
            ("Vec", [element]) if !is_u8(element) => Self::List(element),
            ("Option", [value]) => Self::Optional(value),
            // A hasher of one's own may follow.
            ("HashMap" | "BTreeMap", [key, value]) => Self::Map(ty, [key, value]),
            _ => Self::Single(ty),
        }
    }

    /// The type of the values.
    pub(super) fn value(&self) -> &'a Type {
        match self {
            Self::Single(ty) | Self::Optional(ty) | Self::List(ty) | Self::Map(_, [_, ty]) => ty,
        }
    }

    /// Whether its values may hold messages, as far as their spelling tells.
    pub(super) fn may_nest(&self) -> bool {
        const FLAT: [&str; 16] = [
            "bool",
            "u8",
            "u16",
            "u32",
            "u64",
            "i8",
            "i16",
            "i32",
            "i64",
            "f32",
            "f64",
            "String",
            "Bytes",
            "Vec",
            "Duration",
            "SystemTime",
        ];
        !last_segment(self.value()).is_some_and(|it| FLAT.iter().any(|flat| it.ident == flat))
    }
}

/// Reports what in the type of a field has no place in a message.
pub(super) fn check(ty: &Type, errors: &mut Errors) {
    let shape = Shape::of(ty);
    check_value(shape.value(), errors);
    if let Shape::Map(_, [key, _]) = shape {
        let is_key = last_segment(key).is_some_and(|it| {
            !["f32", "f64", "Bytes", "Vec", "Option", "Box"].iter().any(|not| it.ident == not)
        });
        if !is_key {
            errors.on(key, "the keys of a map in a message are `String`, `bool` and integers");
        }
    }
}

/// Reports a type that no single value of a field has.
fn check_value(ty: &Type, errors: &mut Errors) {
    match ty {
        Type::Group(group) => return check_value(&group.elem, errors),
        Type::Paren(paren) => return check_value(&paren.elem, errors),
        Type::Path(_) => {}
        Type::Reference(_) => {
            return errors.on(
                ty,
                "a message owns what it holds; use `String`, `Vec<u8>`, `Bytes` or a `Box`",
            );
        }
        Type::Tuple(_) => {
            return errors.on(ty, "a tuple has no numbers for its parts; make it a message with `#[corewire::message]`");
        }
        Type::Array(_) => {
            return errors.on(ty, "an array has no form of its own in a message; use a `Vec`");
        }
        _ => return errors.on(ty, "this type cannot be a field of a message"),
    }
    let Some(segment) = last_segment(ty) else { return };
    let text = segment.ident.to_string();
    let advice = match text.as_str() {
        "usize" => "its size depends on the machine; use `u64` or `u32`",
        "isize" => "its size depends on the machine; use `i64` or `i32`",
        "u128" | "i128" => {
            "protobuf and JSON have no such number; use `Vec<u8>`, or a message of two `u64`"
        }
        "char" => "protobuf has no such type; use `String` or `u32`",
        "Rc" | "Arc" | "RefCell" | "Cell" | "Mutex" => {
            "a message owns what it holds; use the plain type or a `Box`"
        }
        "Instant" => "it means nothing on another machine; use `SystemTime` or `Duration`",
        "HashSet" | "BTreeSet" | "VecDeque" => "lists in a message are `Vec`s",
        "Box" => match arguments(segment).as_slice() {
            [inner] => return check_value(inner, errors),
            _ => return,
        },
        "Vec" if !arguments(segment).iter().any(|it| is_u8(it)) => {
            "a list in a list, map, `Option` or `Box` has no form in protobuf; make the inner one a message with a list"
        }
        "Option" | "HashMap" | "BTreeMap" => {
            "inside of another type it has no form in protobuf; make it a message of its own"
        }
        _ => return,
    };
    errors.on(ty, format!("`{}`: {advice}", type_text(ty)));
}
