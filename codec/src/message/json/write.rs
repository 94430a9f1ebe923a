//! Writes JSON at the end of a `Vec`.

use crate::message::budget::{DEPTH_MAX, Exceeded};
use crate::payload::codec::EncodeError;
use core::fmt;
use std::io::Write as _;

/// Appends JSON. A fault is kept until [`Writer::finish`], so that writing needs no checks.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    depth: u32,
    /// Whether something stands in the innermost object or list.
    follows: bool,
    fault: Option<String>,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, depth: 0, follows: false, fault: None }
    }

    /// Ends the writing.
    ///
    /// # Errors
    ///
    /// The first fault; what was written is then of no use.
    pub fn finish(self) -> Result<(), EncodeError> {
        self.fault.map_or(Ok(()), |reason| Err(EncodeError::new(reason)))
    }

    /// Says that a value has no encoding.
    #[cold]
    pub fn fail(&mut self, reason: impl fmt::Display) {
        self.fault.get_or_insert_with(|| reason.to_string());
    }

    /// A word of JSON's own: a number, `true`, `null`.
    pub fn word(&mut self, word: impl fmt::Display) {
        // A `Vec` takes everything.
        let _ = write!(self.out, "{word}");
    }

    /// A string whose text needs no escapes.
    pub fn plain(&mut self, text: impl fmt::Display) {
        let _ = write!(self.out, "\"{text}\"");
    }

    /// A string.
    pub fn text(&mut self, text: &str) {
        if let Err(error) = serde_json::to_writer(&mut *self.out, text) {
            self.fail(error);
        }
    }

    /// The name of a field, and then its value.
    pub fn field(&mut self, name: &str, value: impl FnOnce(&mut Self)) {
        self.element(|out| {
            out.text(name);
            out.out.push(b':');
            value(out);
        });
    }

    /// An element of a list.
    pub fn element(&mut self, value: impl FnOnce(&mut Self)) {
        if self.follows {
            self.out.push(b',');
        }
        value(self);
        self.follows = true;
    }

    /// An object of the fields that `fields` writes.
    pub fn object(&mut self, fields: impl FnOnce(&mut Self)) {
        self.nested(b"{}", fields);
    }

    /// A list of the elements that `elements` writes.
    pub fn list(&mut self, elements: impl FnOnce(&mut Self)) {
        self.nested(b"[]", elements);
    }

    fn nested(&mut self, [open, close]: &[u8; 2], parts: impl FnOnce(&mut Self)) {
        // An object may be in a list or map of a field, so there are up to three for each message.
        if self.depth >= DEPTH_MAX.saturating_mul(3) || self.fault.is_some() {
            return self.fail(Exceeded::Depth);
        }
        self.depth = self.depth.saturating_add(1);
        let follows = core::mem::take(&mut self.follows);
        self.out.push(*open);
        parts(self);
        self.out.push(*close);
        self.follows = follows;
        self.depth = self.depth.saturating_sub(1);
    }
}
