//! `#[corewire::service]` in the least friendly surroundings: no prelude, everything shadowed, every name of ours taken.
//!
//! That these modules compile is most of the test; the assertions at the end look at what came out.
#![deny(warnings, missing_docs, unreachable_pub, unused_qualifications)]

/// No prelude: a name that the expansion does not spell from its root is not found here.
#[no_implicit_prelude]
pub mod without_prelude {
    #[::corewire::service]
    /// Docs below the macro are the trait's, too.
    pub trait Bare {
        /// Nothing in, nothing out.
        async fn nothing(&self) -> ::std::result::Result<(), ::corewire::Status>;
        /// Everything in.
        async fn everything(
            &self,
            context: &::corewire::Context,
            key: ::std::string::String,
            values: ::std::vec::Vec<u8>,
        ) -> ::std::result::Result<::std::option::Option<u64>, ::corewire::Status>;
    }
}

/// Messages without a prelude.
#[no_implicit_prelude]
pub mod messages_without_prelude {
    /// A message of every shape.
    #[::corewire::message]
    #[derive(::core::fmt::Debug)]
    pub struct Bare<T> {
        /// One.
        #[id(1)]
        pub one: ::std::string::String,
        /// One or none.
        #[id(2)]
        pub optional: ::std::option::Option<T>,
        /// A list.
        #[id(3)]
        pub list: ::std::vec::Vec<Either>,
        /// A map.
        #[id(4)]
        pub map: ::std::collections::BTreeMap<u32, Plain>,
    }

    /// A `oneof`.
    #[::corewire::message]
    #[derive(::core::fmt::Debug)]
    pub enum Either {
        /// With data.
        #[id(1)]
        Data(u32),
        /// Without.
        #[id(2)]
        Nothing,
    }

    /// An enum without data.
    #[::corewire::message]
    #[derive(::core::fmt::Debug)]
    pub enum Plain {
        /// The first.
        #[id(0)]
        Zero,
        /// What is not known.
        #[unknown]
        Other(i32),
    }

    /// No fields.
    #[::corewire::message]
    #[derive(::core::fmt::Debug)]
    pub struct Empty;
}

/// Names of the prelude, of the crates and of our own types mean something else here.
#[expect(dead_code, non_camel_case_types, reason = "they are here to be stumbled over")]
mod shadowed {
    pub(crate) struct Option;
    pub(crate) struct Vec;
    pub(crate) struct String;
    pub(crate) struct Rc;
    pub(crate) struct Ok;
    pub(crate) struct Err;
    pub(crate) struct Some;
    pub(crate) struct None;
    pub(crate) struct Clone;
    pub(crate) struct Debug;
    pub(crate) struct Service;
    pub(crate) struct Methods;
    pub(crate) struct Speedy;
    pub(crate) struct Raw;
    pub(crate) struct Channel;
    pub(crate) struct u32;
    pub(crate) mod std {}
    pub(crate) mod core {}
    pub(crate) mod corewire {}
    pub(crate) mod codec {}
    /// An alias with the name and the shape that the macro looks for.
    pub(crate) type Result<A, B> = ::std::result::Result<A, B>;
    pub(crate) use ::corewire::Status;

    #[::corewire::service(name = "shadowed.Service")]
    pub(crate) trait Shadowed {
        async fn get(&self, key: u64) -> Result<::std::string::String, Status>;
        async fn body(&self, body: ::corewire::Bytes) -> Result<::corewire::Bytes, Status>;
    }
}

/// Arguments called as the expansion calls its own variables, and types called as its parameters.
mod clashing {
    use corewire::{Bytes, Context, Status};

    /// A type with the name that a type parameter usually has.
    pub(crate) type T = u8;
    /// And the one that it would have next.
    pub(crate) type T0 = u16;

    #[corewire::service]
    pub(crate) trait Clashing {
        async fn one(
            &self,
            call: u8,
            arguments: u16,
            context: u32,
            service: u64,
            methods: String,
            body: Vec<u8>,
        ) -> Result<T, Status>;
        async fn two(
            &self,
            context: &Context,
            call: T0,
            caller: u8,
            formatter: u8,
            address: u8,
        ) -> Result<T, Status>;
        async fn three(&self, context: &Context, call: Bytes) -> Result<Bytes, Status>;
        async fn four(&self, service: Bytes) -> Result<Bytes, Status>;
        async fn five(&self, _: &Context, body: Bytes) -> Result<(), Status>;
        async fn r#move(&self, r#type: u8, _unused: u8) -> Result<(), Status>;
        async fn description(&self) -> Result<(), Status>;
        async fn register(&self, timeout: u8) -> Result<(), Status>;
        async fn unary(&self, caller: u8, reply: u8) -> Result<(), Status>;
    }
}

/// A service declared by a macro of its author, whose types arrive in invisible groups.
mod from_a_macro {
    use corewire::{Bytes, Status};

    macro_rules! store {
        ($name:ident, $value:ty, $method:ident($argument:ident)) => {
            #[corewire::service]
            pub(crate) trait $name {
                async fn $method(&self, $argument: $value) -> Result<$value, Status>;
                async fn both(&self, first: $value, second: Vec<$value>) -> Result<u8, Status>;
            }
        };
    }
    store!(Numbers, u64, put(value));

    macro_rules! blob {
        ($value:ty, $reply:ty) => {
            #[corewire::service]
            pub(crate) trait Blobs {
                async fn put(&self, value: $value) -> $reply;
            }
        };
    }
    blob!(Bytes, Result<Bytes, Status>);
}

/// Inherited visibility, a supertrait, no methods, and an old method.
mod corners {
    use corewire::Status;

    pub(crate) trait Named: 'static {}

    #[corewire::service]
    trait Empty {}

    #[corewire::service]
    pub(super) trait Derived: Named {
        #[deprecated]
        async fn old(&self) -> Result<(), Status>;
    }

    #[cfg(any())]
    #[corewire::service]
    trait Never {
        async fn never(&self) -> Result<Missing, Status>;
    }

    #[corewire::service]
    #[cfg(any())]
    trait NeverEither {
        async fn never(&self) -> Result<Missing, Status>;
    }

    pub(super) fn empty() -> &'static corewire::ServiceDescription {
        EmptyClient::DESCRIPTION
    }
}

use corewire::{CodecId, Context, MethodDescription, MethodId, Service, Status};
use std::rc::Rc;

/// Neither `Clone`, `Debug`, `Send` nor `Sync`: a server asks for nothing but the trait.
struct Plain(#[expect(dead_code, reason = "what makes it !Send")] Rc<()>);

impl without_prelude::Bare for Plain {
    async fn nothing(&self) -> Result<(), Status> {
        Ok(())
    }

    async fn everything(
        &self,
        _context: &Context,
        key: String,
        values: Vec<u8>,
    ) -> Result<Option<u64>, Status> {
        Ok(key.len().checked_add(values.len()).map(|sum| sum as u64))
    }
}

fn names(methods: &[MethodDescription]) -> Vec<&str> {
    methods.iter().map(|method| method.name).collect()
}

#[test]
fn a_server_is_clone_and_debug_whatever_it_serves() {
    let server = without_prelude::BareServer::new(Plain(Rc::new(())));
    let shared = without_prelude::BareServer::from_rc(Rc::new(Plain(Rc::new(()))));
    assert_eq!(format!("{:?}", server.clone()), "BareServer { .. }");
    assert!(std::ptr::eq(shared.description(), server.description()));
}

#[test]
fn the_description_says_what_the_trait_says() {
    let service = without_prelude::BareClient::DESCRIPTION;
    assert_eq!(service.name, "Bare");
    assert_eq!(service.docs, "Docs below the macro are the trait's, too.");
    assert_eq!(names(service.methods), ["nothing", "everything"]);

    let everything = &service.methods[1];
    assert_eq!(everything.service, "Bare");
    assert_eq!(everything.docs, "Everything in.");
    assert_eq!(everything.reply, "::std::option::Option<u64>");
    let arguments = everything.arguments.iter();
    let arguments: Vec<_> = arguments.map(|it| (it.name, it.type_name)).collect();
    assert_eq!(arguments, [("key", "::std::string::String"), ("values", "::std::vec::Vec<u8>")]);
    assert!(everything.id == MethodId::of("Bare", "everything"));
}

#[test]
fn raw_bodies_are_known_by_their_type() {
    let service = shadowed::ShadowedClient::DESCRIPTION;
    assert_eq!(service.name, "shadowed.Service");
    let codecs = service.methods.iter();
    let codecs: Vec<_> = codecs.map(|it| (it.request_codec, it.reply_codec)).collect();
    assert!(codecs[0] == (CodecId::SPEEDY, CodecId::SPEEDY));
    assert!(codecs[1] == (CodecId::RAW, CodecId::RAW));

    let behind_a_group = &from_a_macro::BlobsClient::DESCRIPTION.methods[0];
    assert!(behind_a_group.request_codec == CodecId::RAW);
    assert!(behind_a_group.reply_codec == CodecId::RAW);
    let numbers = &from_a_macro::NumbersClient::DESCRIPTION.methods[1];
    assert_eq!(numbers.arguments[1].type_name, "Vec<u64>");
}

#[test]
fn names_on_the_wire_are_plain() {
    let r#move = &clashing::ClashingClient::DESCRIPTION.methods[5];
    assert_eq!(r#move.name, "move");
    assert_eq!(r#move.arguments[0].name, "type");
    assert_eq!(r#move.arguments[1].name, "_unused");
    assert!(corners::empty().methods.is_empty());
}

/// The macro refuses two methods whose ids are the same, and computes the ids for that itself. These two names collide
/// under its hash; if they did not under the runtime's, the refusal would guard something else.
#[test]
fn the_macro_and_the_runtime_agree_on_method_ids() {
    let first = MethodId::of("Collide", "stop_prefix_metric");
    let second = MethodId::of("Collide", "sum_find_first");
    assert!(first == second);
}

mod of_equal_types {
    #[corewire::service]
    pub(crate) trait Alike {
        async fn first(&self, key: String, amount: u32) -> Result<u64, corewire::Status>;
        async fn second(&self, name: String, count: u32) -> Result<u64, corewire::Status>;
        async fn other(&self, name: String, count: u64) -> Result<u64, corewire::Status>;
    }
}

/// What is generic over a call is compiled once for all methods that take and return the same types: a trait may have a
/// thousand of them.
#[test]
fn methods_of_equal_types_make_calls_of_one_type() {
    fn call<T, R>(_: impl Fn(&AlikeClient, String, T) -> R) -> &'static str {
        std::any::type_name::<R>()
    }
    type AlikeClient = of_equal_types::AlikeClient;
    assert_eq!(call(AlikeClient::first), call(AlikeClient::second));
    assert_ne!(call(AlikeClient::first), call(AlikeClient::other));
}
