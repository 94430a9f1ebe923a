//! What runs on a host: the shards of a server, or code of clients.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use corewire_client::Address;
use corewire_engine::{EngineConfig, MadeDispatch, MakeDispatch, Placement};
use corewire_proto::ShardInfo;

/// Makes the dispatcher of a shard, on its host.
pub(crate) type MakeLocal = Rc<dyn Fn(ShardInfo) -> MadeDispatch>;

/// Code of a client's host, to be begun again when the host restarts.
pub(crate) type Begin = Rc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

/// What runs on a host.
#[derive(Clone)]
pub(crate) enum Role {
    Server(Rc<SimulatedServer>),
    Client(Begin),
    /// Only what the test itself starts there.
    Test,
}

/// A server as a simulation starts it: a `ServerBuilder`, by `into`.
#[derive(Clone)]
pub struct SimulatedServer {
    pub(crate) config: EngineConfig,
    pub(crate) make: MakeLocal,
    /// What is wrong with it, if it was never right.
    wrong: Option<String>,
}

impl fmt::Debug for SimulatedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedServer").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SimulatedServer {
    /// A server with these settings.
    #[must_use]
    #[allow(clippy::large_types_passed_by_value, reason = "once per server")]
    #[doc(hidden)]
    pub fn new(config: EngineConfig, make: MakeDispatch) -> Self {
        Self { config, make: Rc::new(move |shard| make(shard)), wrong: None }
    }

    /// A server that cannot start, and why.
    #[must_use]
    #[doc(hidden)]
    pub fn wrong(why: String) -> Self {
        let nothing = || -> MadeDispatch { Box::pin(async { Err("it cannot start".into()) }) };
        let config = EngineConfig::new(Vec::new());
        Self { config, make: Rc::new(move |_| nothing()), wrong: Some(why) }
    }

    /// A server of one shard with the default settings, whose dispatcher need not be `Send`. It cannot be restarted.
    #[must_use]
    #[doc(hidden)]
    pub fn once(make: MadeDispatch) -> Self {
        let make = std::cell::Cell::new(Some(make));
        let again = || -> MadeDispatch {
            Box::pin(async {
                Err("its service was given by value, so it cannot start again".into())
            })
        };
        let config =
            EngineConfig { placement: Placement::Unpinned(1), ..EngineConfig::new(Vec::new()) };
        Self { config, make: Rc::new(move |_| make.take().unwrap_or_else(again)), wrong: None }
    }

    /// How many shards it has: as many as the placement names, and one where that would depend on the machine.
    pub(crate) fn shards(&self) -> u16 {
        match &self.config.placement {
            Placement::Cpus(cpus) => u16::try_from(cpus.len()).unwrap_or(u16::MAX).max(1),
            Placement::Unpinned(count) => (*count).max(1),
            _ => 1,
        }
    }

    /// The ports at which it listens; none if it has no addresses, and then it listens at all.
    pub(crate) fn ports(&self) -> Result<Vec<u16>, String> {
        let port = |address: &Address| match address {
            Address::Tcp(address) => Ok(address.port()),
            Address::Name { port, .. } => Ok(*port),
            Address::Unix(path) => Err(format!(
                "the hosts of a simulation have no Unix sockets, and this server listens at {}",
                path.display()
            )),
            other => Err(format!(
                "the hosts of a simulation have TCP alone, and this server listens at {other}"
            )),
        };
        let ports: Vec<u16> = self.config.addresses.iter().map(port).collect::<Result<_, _>>()?;
        // Port 0 is any, so the server is found at each.
        Ok(if ports.contains(&0) { Vec::new() } else { ports })
    }

    /// What production would refuse to start with.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        // Its addresses are looked at elsewhere, and it may have none.
        let anywhere = Address::Tcp(([127, 0, 0, 1], 0).into());
        let config = EngineConfig { addresses: vec![anywhere], ..self.config.clone() };
        config.check().map_err(|error| error.to_string())
    }
}
