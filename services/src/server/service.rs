//! Something that serves calls on one shard.

use corewire_engine::ServiceClass;
use std::fmt;

use crate::description::ServiceDescription;
use crate::layer::{AsyncLayer, Layer};
use crate::server::slot::Methods;

/// Something that serves calls on one shard. `#[corewire::service]` makes one from a trait.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service",
    label = "not a service",
    note = "wrap it in the server that `#[corewire::service]` makes from a trait: for `trait KeyValue` that is `KeyValueServer::new(…)`"
)]
pub trait Service: 'static {
    /// The names and methods that it offers.
    fn description(&self) -> &'static ServiceDescription;

    /// Adds its methods.
    #[doc(hidden)]
    fn register(self, methods: &mut Methods);

    /// The same service with a layer around all its methods, inside those of the server. See
    /// [`layer`](crate::layer).
    ///
    /// ```
    /// use corewire::layer::ConcurrencyLimit;
    /// use corewire::{Service, echo};
    ///
    /// let service = echo::EchoServer::new(echo::Echoer).layer(ConcurrencyLimit::new(100));
    /// assert_eq!(service.description().name, "corewire.Echo");
    /// ```
    #[doc(alias("middleware", "interceptor"))]
    fn layer<L: Layer>(self, layer: L) -> LayeredService<Self, L>
    where
        Self: Sized,
    {
        LayeredService::new(self, layer)
    }

    /// The same service with all its methods in this class, but for those that say another one by
    /// `#[corewire(class = "…")]`. See [`ServiceClass`].
    ///
    /// ```
    /// use corewire::{Service, ServiceClass, echo};
    ///
    /// let service = echo::EchoServer::new(echo::Echoer).in_class(ServiceClass::Batch);
    /// assert_eq!(service.description().name, "corewire.Echo");
    /// ```
    #[doc(alias("scheduling group", "priority", "qos"))]
    fn in_class(self, class: ServiceClass) -> InClass<Self>
    where
        Self: Sized,
    {
        InClass { service: self, class }
    }

    /// The same service with a layer that its calls wait for around all its methods, inside those of the server. See
    /// [`AsyncLayer`].
    fn async_layer<L: AsyncLayer>(self, layer: L) -> AsyncLayeredService<Self, L>
    where
        Self: Sized,
    {
        AsyncLayeredService { service: self, layer }
    }
}

/// A service with a layer around its methods that waits; made by [`Service::async_layer`].
///
/// ```
/// use corewire::layer::{AsyncLayer, AsyncLayeredService};
/// use corewire::{Service, echo};
///
/// fn guarded<L: AsyncLayer>(layer: L) -> AsyncLayeredService<echo::EchoServer<echo::Echoer>, L> {
///     echo::EchoServer::new(echo::Echoer).async_layer(layer)
/// }
/// ```
pub struct AsyncLayeredService<S, L> {
    pub(crate) service: S,
    pub(crate) layer: L,
}

impl<S, L> fmt::Debug for AsyncLayeredService<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncLayeredService").finish_non_exhaustive()
    }
}

/// A service with a layer around its methods; made by [`Service::layer`].
///
/// ```
/// use corewire::layer::{ConcurrencyLimit, LayeredService, Log};
/// use corewire::{Service, echo};
///
/// type Limited = LayeredService<echo::EchoServer<echo::Echoer>, ConcurrencyLimit>;
///
/// fn limited() -> Limited {
///     echo::EchoServer::new(echo::Echoer).layer(ConcurrencyLimit::new(100))
/// }
///
/// assert_eq!(limited().layer(Log::new()).description().name, "corewire.Echo");
/// ```
pub struct LayeredService<S, L> {
    pub(crate) service: S,
    pub(crate) layer: L,
}

impl<S, L> LayeredService<S, L> {
    fn new(service: S, layer: L) -> Self {
        Self { service, layer }
    }
}

impl<S, L> fmt::Debug for LayeredService<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredService").finish_non_exhaustive()
    }
}

/// A service whose methods are of one class; made by [`Service::in_class`].
///
/// ```
/// use corewire::{InClass, Service, ServiceClass, echo};
///
/// fn bulk() -> InClass<echo::EchoServer<echo::Echoer>> {
///     echo::EchoServer::new(echo::Echoer).in_class(ServiceClass::Batch)
/// }
/// assert_eq!(bulk().description().name, "corewire.Echo");
/// ```
pub struct InClass<S> {
    pub(crate) service: S,
    pub(crate) class: ServiceClass,
}

impl<S> fmt::Debug for InClass<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InClass").field("class", &self.class).finish_non_exhaustive()
    }
}
