//! Numbers and types of a message's fields.

#[corewire::message(name = "notes.v1.Note", reserved(7))]
struct Note {
    title: String,
    #[id(2)]
    size: usize,
    #[id(2)]
    tags: Vec<String>,
    #[id(7)]
    due: u64,
    #[id(0)]
    text: &'static str,
    #[id(19_000)]
    rows: Vec<Vec<u32>>,
    #[id(9)]
    pair: (u32, u32),
    #[id(10, title = "x")]
    more: u32,
}

fn main() {}
