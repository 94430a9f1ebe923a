//! Enums as messages.

#[corewire::message]
enum Color {
    #[id(1)]
    Red,
    Green,
    #[unknown]
    Other(u8),
}

#[corewire::message]
enum Shape {
    #[id(1)]
    Circle(f64),
    #[id(1)]
    Square { side: f64 },
    #[id(3)]
    Many(Vec<u32>),
}

#[corewire::message]
trait Nothing {}

fn main() {}
