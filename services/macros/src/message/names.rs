//! Names of fields and values in protobuf and in JSON.

/// protobuf's name in JSON: `due_date` is `dueDate`.
pub(super) fn json(name: &str) -> String {
    let mut json = String::new();
    let mut upper = false;
    for character in name.chars() {
        match character {
            '_' => upper = true,
            other if upper => {
                json.extend(other.to_uppercase());
                upper = false;
            }
            other => json.push(other),
        }
    }
    json
}

/// `DueDate` as `due_date`. A run of capitals is one word: `HTTPServer` is `http_server`.
pub(super) fn snake(name: &str) -> String {
    let characters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (at, &character) in characters.iter().enumerate() {
        if character.is_uppercase() && at > 0 {
            let before = characters[at - 1];
            let ends_run = characters.get(at + 1).is_some_and(|next| next.is_lowercase());
            if before != '_' && (!before.is_uppercase() || ends_run) {
                snake.push('_');
            }
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

/// The name of an enum's value: `COLOR_LIGHT_RED` for `LightRed` of `Color`.
pub(super) fn value(of: &str, name: &str) -> String {
    format!("{}_{}", snake(of), snake(name)).to_uppercase()
}

/// What is wrong with a message's name, if anything: identifiers with dots between them.
pub(super) fn message_fault(name: &str) -> Option<&'static str> {
    let is_identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    (!name.split('.').all(is_identifier)).then_some(
        "a message's name is made of ASCII letters, digits and `_`, with a package before it: `notes.v1.Note`",
    )
}

/// What is wrong with a field's name, if anything.
pub(super) fn field_fault(name: &str) -> Option<&'static str> {
    (name.contains('.') || message_fault(name).is_some())
        .then_some("protobuf takes ASCII letters, digits and `_` in names; give it one by `#[id(n, name = \"…\")]`")
}

#[cfg(test)]
mod tests {
    use super::{json, snake, value};

    #[test]
    fn names_follow_protobuf_s_rules() {
        assert_eq!(json("due_date_2x"), "dueDate2x");
        assert_eq!(json("_a"), "A");
        assert_eq!(snake("HTTPServer"), "http_server");
        assert_eq!(snake("LightRed"), "light_red");
        assert_eq!(value("Color", "LightRed"), "COLOR_LIGHT_RED");
    }
}
