//! `#[corewire::message]` in every codec: what is written, what is read, and what bad bytes get.

#[path = "messages/zoo.rs"]
mod zoo;

use corewire::Bytes;
use corewire::message::{from_json, from_protobuf, to_json, to_protobuf};
use speedy::{Readable, Writable};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};
use zoo::{Animal, Color, Leaf, Page, Tree, Zoo};

fn example() -> Zoo {
    Zoo {
        flag: true,
        small: 200,
        short: -3,
        count: u64::MAX,
        name: "Zoë \"\\\n".into(),
        data: vec![0, 255, 7],
        shared: Bytes::from_static(b"shared"),
        numbers: vec![0, -1, i64::MIN],
        names: vec!["a".into(), String::new()],
        maybe: Some(0),
        ratio: -0.5,
        exact: 1e300,
        color: Color::Yellow,
        colors: vec![Color::White, Color::Other(77)],
        leaf: Leaf { value: 9 },
        leaves: vec![Leaf { value: 0 }, Leaf { value: 3 }],
        animal: Some(Animal::Named("Rex".into())),
        animals: vec![Animal::Nobody, Animal::Planted(Box::default())],
        tree: Tree { value: 1, children: vec![Tree::default()], best: Some(Box::default()) },
        lasts: Duration::new(3, 500_000_000),
        since: UNIX_EPOCH - Duration::from_nanos(1),
        by_name: BTreeMap::from([("x".to_owned(), Leaf { value: 2 })]),
        by_number: [(-4, "minus four".to_owned())].into(),
        by_flag: [(false, 0.25)].into(),
        page: Page { items: vec![Leaf { value: 5 }], next: Some(1) },
        blobs: vec![vec![1], vec![]],
    }
}

#[test]
fn a_message_comes_back_from_every_codec() {
    let zoo = example();
    let speedy = zoo.write_to_vec().expect("speedy");
    assert_eq!(Zoo::read_from_buffer(&speedy).expect("speedy"), zoo);
    let protobuf = Bytes::from(to_protobuf(&zoo).expect("protobuf"));
    assert_eq!(from_protobuf::<Zoo>(&protobuf).expect("protobuf"), zoo);
    let json = to_json(&zoo).expect("JSON");
    assert_eq!(from_json::<Zoo>(json.as_bytes()).expect("JSON"), zoo);
}

#[test]
fn a_message_of_defaults_comes_back_and_is_short() {
    let leaf = Leaf { value: 0 };
    assert_eq!(to_protobuf(&leaf).expect("protobuf"), b"");
    assert_eq!(to_json(&leaf).expect("JSON"), "{}");
    assert_eq!(from_protobuf::<Zoo>(&Bytes::new()).expect("nothing was sent").count, 0);
    assert_eq!(from_json::<Zoo>(b"{}").expect("nothing was sent").color, Color::White);
}

#[test]
fn json_is_that_of_proto3() {
    let json = to_json(&Page { items: vec![Leaf { value: 5 }], next: Some(1 << 60) });
    assert_eq!(json.expect("JSON"), r#"{"items":[{"value":5}],"next":"1152921504606846976"}"#);
    let zoo = to_json(&example()).expect("JSON");
    for part in [
        r#""data":"AP8H""#,
        r#""count":"18446744073709551615""#,
        r#""color":"COLOR_YELLOW""#,
        r#""colors":["COLOR_WHITE",77]"#,
        r#""animal":{"named":"Rex"}"#,
        r#""animals":[{"nobody":{}},{"planted":{}}]"#,
        r#""lasts":"3.500s""#,
        r#""since":"1969-12-31T23:59:59.999999999Z""#,
        r#""byNumber":{"-4":"minus four"}"#,
        r#""byFlag":{"false":0.25}"#,
    ] {
        assert!(zoo.contains(part), "{part} in {zoo}");
    }
}

#[test]
fn json_is_read_in_every_allowed_form() {
    for (json, count) in [
        (r#"{"count":5}"#, 5),
        (r#"{"count":"5"}"#, 5),
        (r#"{"count":5.0}"#, 5),
        (r#"{"count":"5e2"}"#, 500),
        (r#"{"count":null}"#, 0),
        (r#"{"count":5,"unknown":{"a":[1,2]}}"#, 5),
    ] {
        assert_eq!(from_json::<Zoo>(json.as_bytes()).expect(json).count, count);
    }
    let zoo: Zoo =
        from_json(br#"{"by_name":{"x":{}},"data":"_-8","color":1}"#).expect("other forms");
    assert_eq!(zoo.by_name.len(), 1);
    assert_eq!(zoo.data, [0xff, 0xef]);
    assert_eq!(zoo.color, Color::Yellow);
}

#[test]
fn bad_json_names_the_field() {
    for (json, part) in [
        (r#"{"small":256}"#, "field `small`"),
        (r#"{"count":-1}"#, "field `count`"),
        (r#"{"count":1.5}"#, "field `count`"),
        (r#"{"count":" 5"}"#, "field `count`"),
        (r#"{"count":1,"count":2}"#, "comes twice"),
        (r#"{"leaf":{"value":"x"}}"#, "field `leaf`: field `value`"),
        (r#"{"data":"a"}"#, "not base64"),
        (r#"{"color":"COLOR_BLUE"}"#, "COLOR_BLUE"),
        (r#"{"animal":{}}"#, "no variant of zoo.v1.Animal"),
        (r#"{"animal":{"nobody":{},"named":"x"}}"#, "two variants"),
        (r#"{"since":"1970-02-30T00:00:00Z"}"#, "field `since`"),
        (r#"{"lasts":"-1s"}"#, "field `lasts`"),
        (r#"{"byName":{"x":{},"x":{}}}"#, "a key comes twice"),
        (r#"{"name":"x"} x"#, "trailing"),
        (r#"[]"#, "an object"),
        ("{\"name\":\"\u{1}\"}", "control character"),
    ] {
        let error = from_json::<Zoo>(json.as_bytes()).expect_err(json).to_string();
        assert!(error.contains(part), "{json}: {error}");
    }
}

#[test]
fn bad_protobuf_names_the_field() {
    let cases: [(&[u8], &str); 12] = [
        (b"\x10\xff\x1f", "field `small`: 4095 does not fit into u8"),
        (b"\x0a\x01x", "field `flag`: it comes as Length where Varint"),
        (b"\x2a\x02\xff\xff", "field `name`: a text is not UTF-8"),
        (b"\x2a\x05ab", "cut off"),
        (b"\x08", "cut off"),
        (b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "more than 64 bits"),
        (b"\x00\x01", "a field's number"),
        (b"\x0f", "7 is no kind of value"),
        (b"\xc4\x3e", "a group ends that did not begin"),
        (b"\xf3\x3f\x08", "cut off"),
        (b"\x8a\x01\x00", "field `animal`: no variant of zoo.v1.Animal"),
        (b"\xa2\x01\x02\x08\xff", "field `lasts`"),
    ];
    for (bytes, part) in cases {
        let error = from_protobuf::<Zoo>(&Bytes::from_static(bytes)).expect_err(part).to_string();
        assert!(error.contains(part), "{bytes:?}: {error}");
    }
}

#[test]
fn protobuf_fields_that_come_twice_are_merged() {
    let (mut one, two) =
        (example(), Zoo { tree: Tree { value: 8, ..Tree::default() }, ..example() });
    let mut bytes = to_protobuf(&one).expect("protobuf");
    bytes.extend(to_protobuf(&two).expect("protobuf"));
    let read: Zoo = from_protobuf(&Bytes::from(bytes)).expect("both");
    one.tree.value = 8;
    assert_eq!(read.tree, one.tree, "the value of the last, the children of both");
    assert_eq!(read.numbers.len(), 6, "lists are joined");
    assert_eq!(read.animal, one.animal);
}

#[test]
fn unknown_fields_and_both_forms_of_a_list_are_read() {
    // Field 1000 as each kind, a group among them; field 8 not packed.
    let bytes = b"\xc0\x3e\x01\xc1\x3e12345678\xc2\x3e\x01x\xc5\x3e1234\xc3\x3e\x08\x01\xc4\x3e\x40\x05\x40\x06";
    let zoo: Zoo = from_protobuf(&Bytes::from_static(bytes)).expect("unknown fields");
    assert_eq!(zoo.numbers, [5, 6]);
}

#[test]
fn bytes_are_slices_of_the_body() {
    let body = Bytes::from(to_protobuf(&example()).expect("protobuf"));
    let zoo: Zoo = from_protobuf(&body).expect("protobuf");
    assert!(body.as_ptr_range().contains(&zoo.shared.as_ptr()));
}

#[test]
fn speedy_s_bytes_are_those_of_its_own_derive() {
    #[derive(speedy::Readable, speedy::Writable)]
    struct Derived {
        value: u32,
        children: Vec<u16>,
        name: Option<String>,
    }

    #[corewire::message]
    struct Message {
        #[id(7)]
        value: u32,
        #[id(1)]
        children: Vec<u16>,
        #[id(3)]
        name: Option<String>,
    }
    let derived = Derived { value: 7, children: vec![1, 2], name: Some("x".into()) };
    let message = Message { value: 7, children: vec![1, 2], name: Some("x".into()) };
    assert_eq!(derived.write_to_vec().expect("speedy"), message.write_to_vec().expect("speedy"));
    let read =
        Message::read_from_buffer(&derived.write_to_vec().expect("speedy")).expect("the same");
    assert_eq!((read.value, read.children, read.name), (7, vec![1, 2], Some("x".into())));
}
