//! Something that serves calls on one shard.

use crate::layer::{Layer, LayeredService};
use crate::server::description::ServiceDescription;
use crate::server::slot::Methods;

/// Something that serves calls on one shard. `#[corewire::service]` makes one from a trait.
pub trait Service: 'static {
    /// What it offers.
    fn description(&self) -> &'static ServiceDescription;

    /// Adds its methods.
    fn register(self, methods: &mut Methods);

    /// The same service with a layer around all its methods, inside those of the server. See
    /// [`layer`](crate::layer).
    fn layer<L: Layer>(self, layer: L) -> LayeredService<Self, L>
    where
        Self: Sized,
    {
        LayeredService::new(self, layer)
    }
}
