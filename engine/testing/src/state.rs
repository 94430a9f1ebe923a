//! What all parts of a user's simulation share: time, dice, names, the settings of the network, and what was ordered.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use corewire_client::{Address, MethodName, Peer};
use corewire_codec::MethodId;

use crate::ground::{Agenda, Clock, Dice};
use crate::net::{NetEvent, NetNote, Rates, Route, Surroundings};
use crate::network::Network;
use crate::record::{Change, Note, line};
use crate::role::Role;
use crate::trace::Tape;

/// How many of the last notes are kept for a report.
const KEPT: usize = 60;

/// The most bytes on their way in one direction of a connection: what Linux's sockets hold without being told.
const PIPE_BYTES: usize = 1024 * 1024;

/// An address is its host's number, shifted by this, and the port.
const PORT_BITS: usize = 16;

/// Something that will happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Net(NetEvent),
    /// A host that was paused goes on; the number tells this pause from others.
    Continue {
        host: usize,
        pause: u64,
    },
}

/// What the test asked for. It is done when the shard that asked has had its turn.
pub(crate) enum Order {
    Start(usize, Role),
    Change(usize, HostOrder),
}

/// What is to become of a host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostOrder {
    Restart,
    Crash,
    Drain,
    /// Until the time in ns, if any.
    Stop(Option<u64>),
    Continue,
}

/// What everybody may know of a host.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Rc<str>,
    /// The ports at which it listens; none for every port.
    ports: Vec<u16>,
    pub(crate) is_up: Cell<bool>,
}

/// The shared parts.
pub(crate) struct SimState {
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    pub(crate) dice: Dice,
    /// The dice that the test draws from: what it draws does not move what else is drawn.
    pub(crate) own_dice: Dice,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) hosts: RefCell<Vec<Rc<Named>>>,
    names: RefCell<BTreeMap<Rc<str>, usize>>,
    pub(crate) methods: RefCell<BTreeMap<MethodId, MethodName>>,
    network: RefCell<Network>,
    ways: RefCell<BTreeMap<(usize, usize), Network>>,
    cuts: RefCell<BTreeSet<(usize, usize)>>,
    pub(crate) orders: RefCell<VecDeque<Order>>,
    /// The longest that a run may take, in virtual time.
    pub(crate) limit: Cell<Duration>,
    /// The most events and turns that a run may take.
    pub(crate) step_limit: Cell<u64>,
    pub(crate) has_run: Cell<bool>,
    pub(crate) handlers: Cell<u64>,
    tape: RefCell<Tape<Note>>,
    /// What is to be printed: nothing is, unless it is asked for.
    fresh: Option<RefCell<Vec<(u64, Note)>>>,
    routes: RefCell<Vec<Route>>,
}

impl std::fmt::Debug for SimState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimState").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl SimState {
    pub(crate) fn new(seed: u64, prints: bool) -> Self {
        Self {
            seed,
            clock: Clock::new(),
            dice: Dice::new(seed),
            own_dice: Dice::new(!seed),
            agenda: Agenda::default(),
            hosts: RefCell::default(),
            names: RefCell::default(),
            methods: RefCell::default(),
            network: RefCell::default(),
            ways: RefCell::default(),
            cuts: RefCell::default(),
            orders: RefCell::default(),
            limit: Cell::new(Duration::from_secs(24 * 3600)),
            step_limit: Cell::new(100_000_000),
            has_run: Cell::new(false),
            handlers: Cell::new(0),
            tape: RefCell::new(Tape::new(KEPT)),
            fresh: prints.then(RefCell::default),
            routes: RefCell::default(),
        }
    }

    // Hosts and their addresses.

    /// Gives a new host its number, or says why it cannot have this name.
    pub(crate) fn add_host(&self, name: &str, ports: Vec<u16>) -> Result<usize, String> {
        if !matches!(format!("{name}:1").parse(), Ok(Address::Name { .. })) {
            return Err(format!(
                "'{name}' is not a host's name; use letters, digits, '-', '_' and dots between them"
            ));
        }
        let mut names = self.names.borrow_mut();
        if names.contains_key(name) {
            return Err(format!("there is a host '{name}' already; give this one another name"));
        }
        let mut hosts = self.hosts.borrow_mut();
        let number = hosts.len();
        let name = Rc::<str>::from(name);
        names.insert(Rc::clone(&name), number);
        hosts.push(Rc::new(Named { name, ports, is_up: Cell::new(false) }));
        Ok(number)
    }

    /// The number of a host, or a sentence with the names that there are.
    pub(crate) fn host(&self, name: &str) -> Result<usize, String> {
        let names = self.names.borrow();
        names.get(name).copied().ok_or_else(|| {
            let known: Vec<&str> = names.keys().map(|name| &**name).collect();
            format!("there is no host '{name}' in this simulation; there are: {}", known.join(", "))
        })
    }

    pub(crate) fn name(&self, host: usize) -> String {
        let hosts = self.hosts.borrow();
        hosts.get(host).map_or_else(|| "?".to_owned(), |host| host.name.to_string())
    }

    /// The addresses at which a host listens.
    pub(crate) fn addresses(&self, host: usize) -> Vec<usize> {
        let hosts = self.hosts.borrow();
        let Some(named) = hosts.get(host) else { return Vec::new() };
        if named.ports.is_empty() {
            return vec![host << PORT_BITS];
        }
        named.ports.iter().map(|port| host << PORT_BITS | usize::from(*port)).collect()
    }

    fn address(&self, host: usize, port: u16) -> usize {
        let hosts = self.hosts.borrow();
        let any = hosts.get(host).is_none_or(|named| named.ports.is_empty());
        host << PORT_BITS | if any { 0 } else { usize::from(port) }
    }

    // What the network is like.

    pub(crate) fn set_network(&self, network: Network) {
        self.ways.borrow_mut().clear();
        *self.network.borrow_mut() = network;
    }

    pub(crate) fn set_way(&self, one: usize, other: usize, network: Network) {
        self.ways.borrow_mut().insert(ordered(one, other), network);
    }

    /// Cuts or heals the way between two hosts; returns whether that changed anything.
    pub(crate) fn set_cut(&self, one: usize, other: usize, cut: bool) {
        let mut cuts = self.cuts.borrow_mut();
        let way = ordered(one, other);
        let changes = if cut { cuts.insert(way) } else { cuts.remove(&way) };
        drop(cuts);
        if changes {
            self.note(Note::Way { from: way.0, to: way.1, cut });
        }
    }

    pub(crate) fn cuts(&self) -> Vec<(usize, usize)> {
        self.cuts.borrow().iter().copied().collect()
    }

    fn with_network<R>(&self, route: Route, read: impl FnOnce(&Network) -> R) -> R {
        let way = route.from.map(|from| ordered(from, route.to >> PORT_BITS));
        let ways = self.ways.borrow();
        match way.and_then(|way| ways.get(&way)) {
            Some(network) => read(network),
            None => read(&self.network.borrow()),
        }
    }

    // What happened.

    pub(crate) fn note(&self, note: Note) {
        let at = self.clock.now();
        let mut tape = self.tape.borrow_mut();
        if note.is_telling() {
            tape.note(at, note);
            if let Some(fresh) = &self.fresh {
                fresh.borrow_mut().push((at, note));
            }
        } else {
            tape.count(at, &note);
        }
    }

    pub(crate) fn note_host(&self, host: usize, what: Change) {
        self.note(Note::Host { host, what });
    }

    pub(crate) fn hash(&self) -> u64 {
        self.tape.borrow().hash()
    }

    /// The last things that happened, one per line.
    pub(crate) fn last(&self) -> Vec<String> {
        let last: Vec<(u64, Note)> = self.tape.borrow().last().copied().collect();
        last.into_iter().map(|(at, note)| self.line(at, note)).collect()
    }

    /// What has happened since this was asked, if it is to be printed.
    pub(crate) fn take_fresh(&self) -> Vec<String> {
        let Some(fresh) = &self.fresh else { return Vec::new() };
        fresh.take().into_iter().map(|(at, note)| self.line(at, note)).collect()
    }

    fn line(&self, at: u64, note: Note) -> String {
        let method = |id: MethodId| {
            let methods = self.methods.borrow();
            methods.get(&id).map_or_else(|| format!("method {:#x}", id.0), ToString::to_string)
        };
        let wire = |wire: usize| match self.routes.borrow().get(wire) {
            Some(route) => {
                let from = route.from.map_or_else(|| "?".to_owned(), |from| self.name(from));
                format!("{from} -> {} #{wire}", self.name(route.to >> PORT_BITS))
            }
            None => format!("connection {wire}"),
        };
        line(at, note, |host| self.name(host), method, wire)
    }
}

/// A way has no direction.
fn ordered(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// The address of a host: 10.0.0.1 for the first.
pub(crate) fn ip(host: usize) -> Ipv4Addr {
    let number = u32::try_from(host + 1).unwrap_or(0) & 0x00ff_ffff;
    Ipv4Addr::from(0x0a00_0000 | number)
}

impl Surroundings for SimState {
    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn dice(&self) -> &Dice {
        &self.dice
    }

    fn fault(&self, millionths: u32) -> bool {
        self.dice.chance(millionths)
    }

    fn after(&self, ns: u64, event: NetEvent) {
        self.agenda.plan(self.now().saturating_add(ns), Event::Net(event));
    }

    fn note(&self, note: NetNote) {
        self.note(Note::Net(note));
    }

    fn rates(&self, route: Route) -> Rates {
        self.with_network(route, Network::rates)
    }

    fn latency(&self, route: Route) -> (u64, u64) {
        self.with_network(route, Network::latency_ns)
    }

    fn pipe(&self) -> usize {
        PIPE_BYTES
    }

    fn shuffles(&self) -> bool {
        true
    }

    fn resolve(&self, address: &Address) -> Option<usize> {
        match address {
            Address::Name { host, port } => {
                let number = self.names.borrow().get(host.as_str()).copied()?;
                Some(self.address(number, *port))
            }
            Address::Tcp(address) => {
                let IpAddr::V4(found) = address.ip() else { return None };
                let number = (0..self.hosts.borrow().len()).find(|&host| ip(host) == found)?;
                Some(self.address(number, address.port()))
            }
            _ => None,
        }
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn transmission(&self, route: Route, bytes: usize) -> u64 {
        self.with_network(route, |network| network.transmission(bytes))
    }

    fn is_cut(&self, route: Route) -> bool {
        let cuts = self.cuts.borrow();
        !cuts.is_empty()
            && route.from.is_some_and(|from| cuts.contains(&ordered(from, route.to >> PORT_BITS)))
    }

    fn peer(&self, wire: usize, route: Route) -> Peer {
        // Ports that no service has.
        let port = u16::try_from(32_768 + wire % 28_000).unwrap_or(32_768);
        Peer::Tcp(SocketAddr::from((ip(route.from.unwrap_or(usize::MAX - 1)), port)))
    }

    fn note_wire(&self, route: Route) {
        self.routes.borrow_mut().push(route);
    }
}
