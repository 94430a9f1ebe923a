//! Messages outside of calls: as bytes, as JSON, and what they are made of.
//!
//! [`#[corewire::message]`](macro@crate::message) makes a struct or an enum a message.
//!
//! ```
//! #[corewire::message]
//! struct Order {
//!     #[id(1)]
//!     order_id: u64,
//! }
//!
//! let schema = corewire::message::Schema::of::<Order>();
//! assert_eq!(schema.messages()[0].fields[0].json_name, "orderId");
//! ```

/// Decoded values take at most this many times the bytes of their body, plus [`MEMORY_FLOOR`].
///
/// Counted are the values and what they own. While a list grows, the allocator may take up to three times that.
pub use corewire_codec::message::budget::AMPLIFICATION;
/// How deep messages nest at most, to be written and to be read.
pub use corewire_codec::message::budget::DEPTH_MAX;
/// What a decoded body may take in any case, in bytes.
pub use corewire_codec::message::budget::MEMORY_FLOOR;
/// JSON, as proto3 maps messages, as a codec.
///
/// ```
/// use corewire::CodecId;
/// use corewire::codec::{Codec, Decode};
/// use corewire::message::Json;
///
/// #[corewire::message]
/// struct Point {
///     #[id(1)]
///     x: i32,
/// }
///
/// assert_eq!(Json::ID, CodecId::JSON);
/// let point: Point = Json::decode(br#"{"x": 3}"#.as_slice().into()).expect("a point");
/// assert_eq!(point.x, 3);
/// ```
#[cfg(feature = "json")]
pub use corewire_codec::message::json::codec::Json;
/// A message that JSON can carry; `#[corewire::message]` implements it.
///
/// ```
/// use corewire::message::{JsonMessage, to_json};
///
/// fn log(message: &impl JsonMessage) {
///     println!("{}", to_json(message).unwrap_or_default());
/// }
/// ```
#[cfg(feature = "json")]
pub use corewire_codec::message::json::field::JsonMessage;
/// The protobuf wire, as a codec.
///
/// ```
/// use corewire::CodecId;
/// use corewire::codec::{Codec, Decode};
/// use corewire::message::Protobuf;
///
/// #[corewire::message]
/// struct Point {
///     #[id(1)]
///     x: i32,
/// }
///
/// assert_eq!(Protobuf::ID, CodecId::PROTOBUF);
/// let point: Point = Protobuf::decode([8, 3].as_slice().to_vec().into()).expect("a point");
/// assert_eq!(point.x, 3);
/// ```
#[cfg(feature = "protobuf")]
pub use corewire_codec::message::proto::codec::Protobuf;
/// A message that protobuf can carry; `#[corewire::message]` implements it.
///
/// ```
/// use corewire::message::{ProtoMessage, to_protobuf};
///
/// fn bytes_of(message: &impl ProtoMessage) -> usize {
///     to_protobuf(message).map_or(0, |bytes| bytes.len())
/// }
/// ```
#[cfg(feature = "protobuf")]
pub use corewire_codec::message::proto::field::ProtoMessage;
/// An enum without data in a [`Schema`].
///
/// ```
/// #[corewire::message]
/// enum Light {
///     #[id(0)]
///     Red,
///     #[id(1)]
///     Green,
/// }
///
/// let schema = corewire::message::Schema::of::<Light>();
/// assert_eq!(schema.enums()[0].values, [(0, "LIGHT_RED"), (1, "LIGHT_GREEN")]);
/// ```
pub use corewire_codec::message::schema::EnumSchema;
/// A field in a [`Schema`].
///
/// ```
/// #[corewire::message]
/// struct Note {
///     #[id(3)]
///     due_date: u64,
/// }
///
/// let schema = corewire::message::Schema::of::<Note>();
/// let field = &schema.messages()[0].fields[0];
/// assert_eq!((field.number, field.name, field.json_name), (3, "due_date", "dueDate"));
/// ```
pub use corewire_codec::message::schema::Field;
/// A message in a [`Schema`].
///
/// ```
/// #[corewire::message(name = "notes.v1.Note")]
/// struct Note {
///     #[id(1)]
///     title: String,
/// }
///
/// let schema = corewire::message::Schema::of::<Note>();
/// assert_eq!(schema.messages()[0].name, "notes.v1.Note");
/// assert!(!schema.messages()[0].is_one_of);
/// ```
pub use corewire_codec::message::schema::MessageSchema;
/// What a message is made of, at run time: for descriptions, for protobuf's tools, and to tell versions apart.
///
/// ```
/// use corewire::message::Schema;
///
/// #[corewire::message(name = "notes.v1.Note")]
/// struct Note {
///     #[id(1)]
///     title: String,
///     #[id(2)]
///     size: u32,
/// }
///
/// #[corewire::message(name = "notes.v2.Note")]
/// struct Renamed {
///     #[id(1)]
///     headline: String,
///     #[id(2)]
///     size: u32,
/// }
///
/// let schema = Schema::of::<Note>();
/// assert_eq!(schema.messages()[0].fields.len(), 2);
/// assert_eq!(schema.fingerprint(), Schema::of::<Renamed>().fingerprint());
/// ```
#[doc(alias("descriptor", "reflection", "fingerprint"))]
pub use corewire_codec::message::schema::Schema;
/// How many values a field holds.
///
/// ```
/// use corewire::message::{Schema, Shape, Type};
///
/// #[corewire::message]
/// struct Note {
///     #[id(1)]
///     tags: Vec<String>,
///     #[id(2)]
///     due: Option<u64>,
/// }
///
/// let schema = Schema::of::<Note>();
/// let [tags, due] = schema.messages()[0].fields.as_slice() else { panic!("two fields") };
/// assert_eq!((tags.shape, tags.ty), (Shape::List, Type::String));
/// assert_eq!((due.shape, due.ty), (Shape::Optional, Type::U64));
/// ```
pub use corewire_codec::message::schema::Shape;
/// The type of a field's values.
///
/// ```
/// use corewire::message::{Schema, Type};
///
/// let schema = Schema::of::<std::time::SystemTime>();
/// assert_eq!(schema.root(), Type::Timestamp);
/// assert_eq!(schema.name_of(schema.root()), "google.protobuf.Timestamp");
/// ```
pub use corewire_codec::message::schema::Type;
/// What can stand in a field of a message. `#[corewire::message]` implements it; nobody else should, because its
/// methods may change.
///
/// ```
/// use corewire::message::{Schema, Value};
///
/// fn are_equal<A: Value, B: Value>() -> bool {
///     Schema::of::<A>().fingerprint() == Schema::of::<B>().fingerprint()
/// }
///
/// assert!(are_equal::<String, Box<String>>());
/// assert!(!are_equal::<u32, u64>());
/// ```
pub use corewire_codec::message::value::Value;

#[cfg(any(feature = "protobuf", feature = "json"))]
use crate::codec::{DecodeError, EncodeError};

/// A message in the protobuf wire.
///
/// ```
/// #[corewire::message]
/// struct Point {
///     #[id(1)]
///     x: i32,
///     #[id(2)]
///     name: String,
/// }
///
/// let bytes = corewire::message::to_protobuf(&Point { x: 3, name: "a".into() }).expect("no times");
/// assert_eq!(bytes, b"\x08\x03\x12\x01a");
/// ```
///
/// # Errors
///
/// A time is outside of the years 1 to 9999, a duration is above 10,000 years, or more than [`DEPTH_MAX`] messages are nested.
#[cfg(feature = "protobuf")]
pub fn to_protobuf<T: ProtoMessage>(message: &T) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = Vec::new();
    corewire_codec::message::proto::codec::write(message, &mut bytes)?;
    Ok(bytes)
}

/// Reads a message that takes the whole of `bytes`. Its fields of type `Bytes` are slices of them, not copied.
///
/// ```
/// #[corewire::message]
/// struct Point {
///     #[id(1)]
///     x: i32,
///     #[id(2)]
///     name: String,
/// }
///
/// let point: Point = corewire::message::from_protobuf(&b"\x08\x03".as_slice().into()).expect("a point");
/// assert_eq!((point.x, point.name.as_str()), (3, ""));
/// ```
///
/// # Errors
///
/// Why they are no such message, with the field. Any bytes may be given: memory is bounded by [`AMPLIFICATION`].
#[cfg(feature = "protobuf")]
pub fn from_protobuf<T: ProtoMessage>(bytes: &crate::Bytes) -> Result<T, DecodeError> {
    corewire_codec::message::proto::codec::read(bytes)
}

/// A message in JSON.
///
/// ```
/// #[corewire::message]
/// struct Order {
///     #[id(1)]
///     order_id: u64,
///     #[id(2)]
///     data: Vec<u8>,
/// }
///
/// let json = corewire::message::to_json(&Order { order_id: 7, data: vec![1] }).expect("no times");
/// assert_eq!(json, r#"{"orderId":"7","data":"AQ=="}"#);
/// ```
///
/// # Errors
///
/// A time is outside of the years 1 to 9999, a duration is above 10,000 years, or more than [`DEPTH_MAX`] messages are nested.
#[cfg(feature = "json")]
pub fn to_json<T: JsonMessage>(message: &T) -> Result<String, EncodeError> {
    let mut bytes = Vec::new();
    corewire_codec::message::json::codec::write(message, &mut bytes)?;
    // The writer appends whole texts only.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads a message that takes the whole of `json`.
///
/// ```
/// #[corewire::message]
/// struct Order {
///     #[id(1)]
///     order_id: u64,
/// }
///
/// let order: Order = corewire::message::from_json(br#"{"order_id": 7, "new": []}"#).expect("an order");
/// assert_eq!(order.order_id, 7);
/// ```
///
/// # Errors
///
/// Why it is no such message, with the field. Any bytes may be given: memory is bounded by [`AMPLIFICATION`].
#[cfg(feature = "json")]
pub fn from_json<T: JsonMessage>(json: &[u8]) -> Result<T, DecodeError> {
    corewire_codec::message::json::codec::read(json)
}
