//! The macros behind `corewire::service`, `corewire::message`, `corewire::main` and `corewire::test`. Use them through the `corewire` crate, whose types its expansion names.
//!
//! `parse` reads the trait into plain structs, `check` holds the rules and reports every broken one at its token,
//! `expand` writes what follows from a trait that keeps them.
#![forbid(unsafe_code)]

mod check;
mod entry;
mod errors;
mod expand;
mod message;
mod names;
mod parse;
mod renamed;

use errors::Errors;
use proc_macro::TokenStream;
use quote::ToTokens;

/// Makes a server and a client from a trait.
///
/// ```ignore
/// use corewire::{Bytes, Context, Status};
///
/// /// Keeps values under keys.
/// #[corewire::service(name = "kv.KeyValue")]
/// pub trait KeyValue {
///     /// The value under `key`.
///     async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Status>;
///
///     /// Puts `value` under `key`.
///     async fn put(&self, context: &Context, key: String, value: Vec<u8>) -> Result<(), Status>;
///
///     /// Stores a whole snapshot. The wire calls it `load`, whatever Rust calls it.
///     #[corewire(name = "load")]
///     async fn load_snapshot(&self, snapshot: Bytes) -> Result<u64, Status>;
/// }
/// ```
///
/// # What it makes
///
/// For a trait `KeyValue`, with the trait's visibility:
///
/// - **`KeyValue`** itself, with `'static` as a further supertrait. Its futures need not be `Send`: a service, its
///   connections and its calls live on one shard.
/// - **`KeyValueServer<T>`** (with the feature `shard`), which implements `corewire::Service` for a `T: KeyValue`. `new` takes the implementation;
///   `from_rc` shares one that other parts of the shard hold, too.
/// - **`KeyValueClient<C>`**, with `new`, `with_timeout`, `without_timeout`, `with`, `in_context`, `channel`, and each method of the trait under its own name. A
///   method takes the same arguments, without the context, and returns a `corewire::Call`, to be awaited, waited for or
///   given a callback for its `Result<T, corewire::CallError>`. `C` is the channel: that of a shard if not given, for
///   which there is `connect`, too; a `corewire::SharedChannel` makes the client `Send`.
/// - **`KeyValueClient::DESCRIPTION`**, a `corewire::ServiceDescription`: names, method ids, types as text and docs.
///
/// # What a method looks like
///
/// `async fn name(&self, …) -> Result<T, Status>`, with `Result` and `Status` spelled in any path form; without a return
/// type if it is one-way.
///
/// - **Arguments** are owned types under plain names, any number of them. They travel in declaration order, so swapping
///   two is a change of the wire; their names appear in the description and in error messages only.
/// - **`&Context`** as the first parameter after `&self` receives the context of the call on the server. It does not
///   travel, and the client's method does not have it. Adding or removing it leaves the wire as it is.
/// - **Codecs.** Arguments and replies are encoded with `speedy`: a struct or an enum in them needs
///   `#[derive(speedy::Readable, speedy::Writable)]`, with the crate `speedy` 0.8 as a dependency. An *only* argument of type `Bytes` is the request's body
///   without any encoding, and so is a reply of type `Bytes`; the type's last path segment decides. `Bytes` together
///   with other arguments is refused.
///
/// # Streams
///
/// `Streaming<M>` as the type of an argument is a stream from the client, as the `T` of `Result<T, Status>` one from the
/// server; both may be used together. There is at most one in each direction, and it cannot be inside another type,
/// such as an `Option`. Each message is an `M`, encoded with `speedy`, or raw if `M` is `Bytes`. Other arguments travel
/// in the request. The client's method takes and returns the streams of its channel (`corewire::StreamTransport`):
/// `corewire::Streaming` on a shard, `corewire::shared::Streaming`, which is `Send`, or
/// `corewire::blocking::Streaming`. Await it or `wait()` for it; it returns a `Result<T, CallError>` as soon as the
/// handler has answered.
///
/// # One-way methods
///
/// `#[one_way] async fn touch(&self, key: String);` has no reply, not even an error: the client's `Ok(())` says that the
/// call was written into the connection, and nothing more.
///
/// # Methods with a key
///
/// `#[corewire(key = "key")] async fn get(&self, key: String) -> …;` names the argument that is the call's key. Calls of
/// methods with equal keys run on one shard, whatever connection they come over: the server hands them to the shard
/// that owns the key, and a client over a `corewire::ShardedChannel` sends them there by itself. The argument's type
/// implements `corewire::ShardKey`: texts, byte strings, integers, `bool` and `char` do. It cannot be a stream; a method
/// that streams may have a key among its other arguments. Where the key stands first, the server reads nothing else to find
/// it. Adding or removing it leaves the wire as it is.
///
/// # Classes
///
/// `#[corewire(class = "batch")]` at a method, or `#[corewire::service(class = "batch")]` for all that say nothing, puts calls into
/// one of the classes `latency`, `normal` and `batch`, among which a busy shard's time is shared out: `corewire::ServiceClass`.
/// It is a matter of the server, and leaves the wire as it is.
///
/// # Blocking methods
///
/// `#[blocking] fn hash(&self, data: Bytes) -> Result<Vec<u8>, Status>;`, without `async`, runs on a thread beside the shards, for work
/// that computes for long or blocks; `corewire::offload` says which threads, and what bounds them. Arguments are decoded and
/// the reply is encoded on the shard. To callers it is a method like others, and fails with `ResourceExhausted` while too
/// much work waits. With `&self` the trait has `Send + Sync` as further supertraits, because the implementation is shared
/// with that thread, and the server has `from_arc` in place of `from_rc`. Without any `self` it needs nothing of the service. It
/// takes no `&Context` and no streams; such a method is an `async fn` that offloads the part that is slow. It may be `#[one_way]`.
///
/// # Names and ids
///
/// A service and a method are known on the wire by their identifiers, or by `name = "…"` where one is given:
/// `#[corewire::service(name = "…")]` on the trait, `#[corewire(name = "…")]` on a method. A method's id follows from
/// these two names alone, never from its place in the trait. To rename a method in Rust and keep the wire stable, give
/// it its old name this way. Two methods of one service whose names or ids are the same are refused.
///
/// # A dependency by another name
///
/// What the macro writes names the crate as `::corewire`. In a package that calls it otherwise, such as
/// `cw = { package = "corewire", … }`, say so: `#[cw::service(crate = cw)]`. A crate that passes Corewire on gives the
/// path to it: `crate = my_rpc::corewire`.
///
/// # What is refused
///
/// Each with an error at the token at fault, and all of one trait at once: anything but a trait; generics, `unsafe`,
/// `extern` and `const`; associated types and constants; conditional methods; a method that is neither `async` nor `#[blocking]`, has no
/// `&self`, has a default body, or does not return `Result<T, Status>`; references, `impl Trait` and `Self` in what
/// travels; patterns in place of argument names; methods called `new`, `connect`, `with_timeout`, `without_timeout`, `with`, `in_context`,
/// `channel` or `clone`, which a client has already; a stream inside of another type, or two in one direction; a one-way
/// method with a result or a stream; a key that is not among the arguments, or that cannot be hashed.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    expand_service(options.into(), item.into()).into()
}

/// Makes a struct or an enum a message: its fields have numbers, so that one definition serves every codec.
///
/// ```ignore
/// #[corewire::message(name = "notes.v1.Note", reserved(3))]
/// #[derive(Debug, PartialEq)]
/// pub struct Note {
///     #[id(1)]
///     pub title: String,
///     #[id(2)]
///     pub tags: Vec<String>,
///     #[id(4)]
///     pub due: Option<std::time::SystemTime>,
///     #[id(5)]
///     pub content: Content,
/// }
///
/// /// Exactly one of these: a `oneof`.
/// #[corewire::message(name = "notes.v1.Content")]
/// #[derive(Debug, PartialEq)]
/// pub enum Content {
///     #[id(1)]
///     Nothing,
///     #[id(2)]
///     Text(String),
///     #[id(3)]
///     Copy(Box<Note>),
/// }
/// ```
///
/// # Types
///
/// `bool`, `u8` to `u64`, `i8` to `i64`, `f32`, `f64`, `String`, `Bytes`, `Vec<u8>`, `Duration`, `SystemTime`, messages, and a `Box` of any of
/// these; once around them an `Option`, a `Vec`, or a `HashMap` or `BTreeMap` with integers, `bool` or `String` as keys. The
/// spelling decides: an alias for a `Vec` is not recognised. A generic parameter stands for one such value.
///
/// # Numbers
///
/// `#[id(n)]`, 1 to 536,870,911 without 19,000 to 19,999, each once. The values of an enum without data begin with 0, which stands
/// for one that was not sent. Never change a number, and put that of a removed field into `reserved(…)`. A name after it,
/// `#[id(1, name = "…")]`, is that in protobuf and JSON.
///
/// # Codecs
///
/// - **speedy** (`speedy::Readable`, `speedy::Writable`): fields one after the other, in the order of their declaration. Both sides need the same
///   definition; `corewire::message::Schema` has its fingerprint.
/// - **protobuf**, with the feature `protobuf`: by number. A reader skips fields that it does not know, and puts zero, nothing or `None` for
///   those that were not sent.
/// - **JSON**, with the feature `json`: proto3's mapping, by name.
///
/// An enum without data refuses a number that it does not know, unless a variant `#[unknown] Name(i32)` keeps it. An enum with
/// data refuses a message without any variant that it knows. A message nests others 100 deep at most, to be written and to be read.
///
/// Put other attributes, such as `#[derive(…)]`, below this one: those above it would see `#[id]`.
#[proc_macro_attribute]
pub fn message(options: TokenStream, item: TokenStream) -> TokenStream {
    message::expand(options.into(), item.into()).into()
}

/// Makes an async function one that runs on a shard of the calling thread, as `block_on_shard` does: for `main`.
///
/// ```ignore
/// use corewire::echo::EchoClient;
///
/// #[corewire::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let client = EchoClient::connect("127.0.0.1:7000").await?;
///     println!("{:?}", client.echo("hi".into()).await?);
///     Ok(())
/// }
/// ```
///
/// The function keeps its return type. A shard that cannot start ends the process with code 1 and a sentence that says how
/// to fix it. Options are the fields of `corewire::ClientShard`: `cpu = 2` pins the thread, `spin = Spin::Always` and
/// `host = Host::Plain` are as there. `crate = cw` is for a package that calls Corewire otherwise.
///
/// A server's `main` needs no shard: `ServerBuilder::run` starts those of the server, and blocks.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(entry::Entry::Main, options.into(), item.into()).into()
}

/// Makes an async function a test.
///
/// - **Without an argument** it runs on a shard of the test's thread, with real sockets and real time.
/// - **With one argument**, a `corewire::testing::Simulation`, it runs in that simulation: on its host `test`, in virtual
///   time, among the hosts that it makes. This takes the feature `testing`.
///
/// ```ignore
/// use corewire::echo::{EchoClient, EchoServer, Echoer};
/// use corewire::testing::{Network, Simulation};
/// use corewire::{CallError, Server};
///
/// #[corewire::test(seeds = 100)]
/// async fn echoes_survive_a_crash(sim: Simulation) -> Result<(), Box<dyn std::error::Error>> {
///     sim.server("echo", Server::builder().service(|_| EchoServer::new(Echoer)));
///     let client = EchoClient::connect("echo:1").await?;
///     client.echo("hi".into()).await?;
///     sim.restart("echo");
///     corewire::sleep(std::time::Duration::from_secs(1)).await;
///     client.echo("hi again".into()).await?;
///     Ok(())
/// }
/// ```
///
/// `seeds = 100` runs it a hundred times, with the seeds 0 to 99; without, it runs once, with seed 0. What fails prints
/// its seed: `COREWIRE_SEED=17 cargo test echoes_survive` runs that one again, `COREWIRE_TRACE=1` prints all that happens in
/// it, and `COREWIRE_SEEDS=5000` runs more seeds than the test asks for.
///
/// The function keeps its attributes (`#[ignore]`, `#[should_panic]`) and its return type: nothing or a `Result`.
/// `crate = cw` is for a package that calls Corewire otherwise.
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    entry::expand(entry::Entry::Test, options.into(), item.into()).into()
}

/// The macro without the compiler's types, so that tests can call it.
fn expand_service(
    options: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    let mut errors = Errors::default();
    let Some(declaration) = parse::declaration(options, item.clone(), &mut errors) else {
        // The item is kept, whatever it is, so that its other uses are not reported as undefined.
        let mut tokens = errors.into_tokens();
        item.to_tokens(&mut tokens);
        return tokens;
    };
    // Methods without faults are expanded even when others have some: the author then sees only the faults, and not
    // an error at every use of a server and a client that would be missing.
    let mut tokens = match check::service(&declaration, &mut errors) {
        Some(service) => expand::service(&declaration, &service),
        None => expand::service_trait(&declaration),
    };
    if let Some(corewire) = &declaration.corewire {
        tokens = renamed::rename(tokens, &corewire.to_token_stream());
    }
    errors.into_tokens().to_tokens(&mut tokens);
    tokens
}
