//! What the macro can tell about a type from its spelling, and which spellings can cross the wire.

use crate::errors::Errors;
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{
    GenericArgument, Lifetime, Path, PathArguments, PathSegment, Type, TypeImplTrait, TypeReference,
};

/// The last segment of the type's path: `Bytes` of `bytes::Bytes`.
fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// Whether the type is a path that ends in `name`, without generic arguments.
pub(super) fn is_named(ty: &Type, name: &str) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == name && segment.arguments.is_none())
}

/// The type as a reference, if it is `&Context` or `&mut Context`, whatever path the name has.
pub(super) fn context_reference(ty: &Type) -> Option<&TypeReference> {
    match ty {
        Type::Reference(reference) => is_named(&reference.elem, "Context").then_some(reference),
        Type::Group(group) => context_reference(&group.elem),
        _ => None,
    }
}

/// `T` and `E` of `Result<T, E>`, whatever path the name has.
pub(super) fn result_parts(ty: &Type) -> Option<(&Type, &Type)> {
    let segment = last_segment(ty).filter(|segment| segment.ident == "Result")?;
    let PathArguments::AngleBracketed(list) = &segment.arguments else {
        return None;
    };
    let mut types = list.args.iter().map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    let parts = (types.next()??, types.next()??);
    types.next().is_none().then_some(parts)
}

/// Reports every part of an argument's or reply's type that cannot cross the wire, whatever it turns out to be.
pub(super) fn travels(ty: &Type, errors: &mut Errors) {
    Traveller { errors }.visit_type(ty);
}

/// Whether this is the name of a stream. An author's own type called `Streaming`, without arguments, is not.
fn is_stream(segment: &PathSegment) -> bool {
    segment.ident == "Streaming" && matches!(segment.arguments, PathArguments::AngleBracketed(_))
}

/// `M` of `Streaming<M>`, whatever path the name has.
pub(super) fn stream_item(ty: &Type) -> Option<&Type> {
    let segment = last_segment(ty).filter(|segment| is_stream(segment))?;
    let PathArguments::AngleBracketed(list) = &segment.arguments else {
        return None;
    };
    match list.args.first() {
        Some(GenericArgument::Type(item)) if list.args.len() == 1 => Some(item),
        _ => None,
    }
}

struct Traveller<'e> {
    errors: &'e mut Errors,
}

impl<'ast> Visit<'ast> for Traveller<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let owned = match &*reference.elem {
            element if is_named(element, "str") => "String".to_owned(),
            Type::Slice(slice) => format!("Vec<{}>", crate::names::type_text(&slice.elem)),
            element => crate::names::type_text(element),
        };
        self.errors.on(
            reference,
            format!("a reference cannot cross the wire; use the owned type `{owned}`"),
        );
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        self.errors.on(ty, "`impl Trait` cannot cross the wire; both sides must know one type");
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.errors.on(lifetime, "a borrowed value cannot cross the wire");
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if let Some(first) = path.segments.first().filter(|it| it.ident == "Self") {
            self.errors
                .on(&first.ident, "`Self` is the server's own type; a client cannot name it");
        }
        visit::visit_path(self, path);
    }

    fn visit_path_segment(&mut self, segment: &'ast PathSegment) {
        if is_stream(segment) {
            self.errors.on(
                segment.to_token_stream(),
                "a stream stands alone: `Streaming<T>` as the whole of an argument, or as the `T` of `Result<T, Status>`",
            );
        }
        visit::visit_path_segment(self, segment);
    }
}
