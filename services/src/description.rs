//! What a service and its methods are called, and what they take: data made by the macro.

use corewire_codec::{CodecId, MethodId};

/// A service, as its trait says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceDescription {
    /// Its name on the wire.
    pub name: &'static str,
    /// The trait's documentation.
    pub docs: &'static str,
    /// Its methods, in the order of the trait.
    pub methods: &'static [MethodDescription],
}

/// One method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodDescription {
    /// Its number on the wire, from its names.
    pub id: MethodId,
    /// Its service's name on the wire.
    pub service: &'static str,
    /// Its name on the wire.
    pub name: &'static str,
    /// The method's documentation.
    pub docs: &'static str,
    /// What it takes, in order.
    pub arguments: &'static [ArgumentDescription],
    /// The Rust type of a successful reply, as written.
    pub reply: &'static str,
    /// How requests are encoded.
    pub request_codec: CodecId,
    /// How replies are encoded.
    pub reply_codec: CodecId,
}

/// One argument of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgumentDescription {
    /// Its name.
    pub name: &'static str,
    /// Its Rust type, as written.
    pub type_name: &'static str,
}
