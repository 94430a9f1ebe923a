//! A field whose type is no message.

struct Plain;

#[corewire::message]
struct Holder {
    #[id(1)]
    plain: Plain,
}

fn main() {}
