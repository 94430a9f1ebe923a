//! Layers that wait: they ask somebody else before a call begins, and hand on what they heard.

use corewire_codec::Status;
use std::future::Future;

use super::CallView;

/// Code that a call waits for before it begins at a server, such as a question to a token service. Its value is an
/// extension of the call, which the handler reads by [`Context::extension`](crate::Context::extension).
///
/// It is implemented for closures. What the future needs of the call is copied out of the [`CallView`] before: the
/// future does not borrow it.
///
/// ```
/// use corewire::layer::CallView;
/// use corewire::{Context, Server, Status};
///
/// #[corewire::service]
/// pub trait Greeter {
///     async fn greet(&self, context: &Context) -> Result<String, Status>;
/// }
///
/// struct Host;
///
/// /// Who calls.
/// struct User(String);
///
/// impl Greeter for Host {
///     async fn greet(&self, context: &Context) -> Result<String, Status> {
///         let user = context.extension::<User>().ok_or_else(|| Status::internal("no layer"))?;
///         Ok(format!("hello, {}", user.0))
///     }
/// }
///
/// /// Asks another service; its channel and its cache may belong to the shard.
/// async fn user_of(token: String) -> Result<User, Status> {
///     Ok(User(token))
/// }
///
/// let server = Server::builder().service(|_shard| GreeterServer::new(Host)).async_layer(|_shard| {
///     |call: &CallView<'_>| {
///         let token = call.metadata().text("token").map(str::to_owned);
///         async move { user_of(token.ok_or_else(|| Status::unauthenticated("no token"))?).await }
///     }
/// });
/// # let _ = server;
/// ```
///
/// # While a call waits
///
/// It counts as pending, holds its request (a copy of it, out of the receive buffer), and is dropped when its
/// caller cancels it or its time is over. A service with many callers bounds what may wait: by a
/// [`ConcurrencyLimit`](super::ConcurrencyLimit) outside this layer. Arguments are not decoded before
/// the layer has let the call pass.
///
/// # Cost
///
/// One indirect call, and what the future does. A future that is ready when it is first polled (a cached token)
/// copies nothing. Memory for the futures is kept for the next calls.
#[doc(alias("middleware", "interceptor", "authentication", "token", "filter"))]
pub trait AsyncLayer: 'static {
    /// What the handler gets. Use a type of your own, so that no other layer can put another value in its place; `()`
    /// hands on nothing.
    type Value: 'static;

    /// The question, while it is asked.
    type Asking: Future<Output = Result<Self::Value, Status>> + 'static;

    /// A call is about to begin. The status of a future that fails goes out marked as refused: the handler has not
    /// run.
    fn ask(&self, call: &CallView<'_>) -> Self::Asking;
}

impl<F, A, V> AsyncLayer for F
where
    F: Fn(&CallView<'_>) -> A + 'static,
    A: Future<Output = Result<V, Status>> + 'static,
    V: 'static,
{
    type Value = V;
    type Asking = A;

    fn ask(&self, call: &CallView<'_>) -> A {
        self(call)
    }
}
