//! What a caught panic said.

use std::any::Any;

/// The message of a panic, if it has a text, cut to 1 KiB.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    const BYTES_MAX: usize = 1024;
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "(a value that is no text)",
    };
    text.get(..text.floor_char_boundary(BYTES_MAX)).unwrap_or_default().to_owned()
}
