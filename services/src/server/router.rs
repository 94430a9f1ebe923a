//! From a method id to the method: one multiplication and one comparison, for nearly all of them.

use corewire_client::MethodName;
use corewire_codec::{MethodId, Status, UnexpectedEncoding, request_flags};
use corewire_engine::{Dispatch, Dispatched, Incoming, ReplySlot, ServiceClass};
use std::rc::Rc;
use std::task::Context;

use crate::description::MethodDescription;
use crate::server::slot::{Method, Methods};

/// The methods of one shard by id: a hash table whose collisions go to the next free place.
///
/// The hash is a multiplication by the best of several multipliers for these ids. A table of a few
/// dozen methods has no collisions at all; in a large one some lookups take a few comparisons more. It
/// has at most [`METHOD_BYTES`] for each method, or [`SMALL_BYTES`] in all.
#[derive(Debug)]
pub(crate) struct Router {
    /// A power of two of these, followed by the places that collisions moved past the end.
    places: Vec<Place>,
    multiplier: u32,
    shift: u32,
}

type Place = Option<(MethodId, Rc<Method>)>;

/// The flags of a request that say what kind of call it is.
const KIND: u8 = request_flags::ONE_WAY | request_flags::STREAM_IN | request_flags::STREAM_OUT;

/// The most that a large table has for each method.
const METHOD_BYTES: usize = 64;

/// A table of up to this size may have more for each, to avoid collisions.
const SMALL_BYTES: usize = 4096;

/// Multipliers that are tried per table size, as long as that means fewer than [`STEPS_MAX`] steps.
const TRIES: u32 = 64;
const STEPS_MAX: usize = 1 << 18;

impl Router {
    /// A router for all methods of a shard's services. Takes time in proportion to their number.
    ///
    /// # Errors
    ///
    /// One sentence that names two methods with the same id, or a layer's setting that is out of range.
    pub(crate) fn new(methods: Methods) -> Result<Self, String> {
        if let Some(wrong) = methods.wrong {
            return Err(wrong);
        }
        let mut list = methods.list;
        list.sort_by_key(|method| method.description.id.0);
        for pair in list.windows(2) {
            if let [one, other] = pair
                && one.description.id == other.description.id
            {
                return Err(clash(one, other));
            }
        }
        let ids: Vec<u32> = list.iter().map(|method| method.description.id.0).collect();
        let hash = Hash::choose(&ids);
        let mut places: Vec<Place> = Vec::new();
        places.resize_with(hash.places(), || None);
        for method in list {
            let id = method.description.id;
            let mut index = hash.of(id.0);
            while places.get(index).is_some_and(Option::is_some) {
                index += 1;
            }
            if index >= places.len() {
                places.resize_with(index + 1, || None);
            }
            if let Some(place) = places.get_mut(index) {
                *place = Some((id, method));
            }
        }
        places.shrink_to_fit();
        Ok(Self { places, multiplier: hash.multiplier, shift: hash.shift })
    }

    #[inline]
    fn find(&self, id: MethodId) -> Option<&Method> {
        let index = (id.0.wrapping_mul(self.multiplier) >> self.shift) as usize;
        match self.places.get(index) {
            Some(Some((found, method))) if *found == id => Some(&**method),
            Some(Some(_)) => self.find_behind(index, id),
            _ => None,
        }
    }

    /// Another method has the place: this one is behind it, before the next free place, if it is there.
    #[inline(never)]
    fn find_behind(&self, index: usize, id: MethodId) -> Option<&Method> {
        let behind = self.places.get(index + 1..)?;
        let taken = behind.iter().map_while(Option::as_ref);
        taken.filter(|(found, _)| *found == id).map(|(_, method)| &**method).next()
    }
}

/// Where an id goes: the upper bits of its product with the multiplier.
#[derive(Clone, Copy)]
struct Hash {
    multiplier: u32,
    shift: u32,
}

impl Hash {
    /// The smallest table without collisions; if there is none, the largest table allowed, with the
    /// multiplier that moves ids least.
    fn choose(ids: &[u32]) -> Self {
        // At most four places of five are taken, so there are free ones between what collides.
        let bits = (ids.len() + ids.len() / 4).next_power_of_two().trailing_zeros().max(1);
        let bytes_max = SMALL_BYTES.max(METHOD_BYTES * ids.len());
        let tries = u32::try_from(STEPS_MAX / ids.len().max(1)).map_or(TRIES, |it| it.min(TRIES));
        let mut best = (usize::MAX, Self { multiplier: 0, shift: 0 });
        let mut taken = Vec::new();
        for bits in bits..32 {
            if best.0 != usize::MAX && (size_of::<Place>() << bits) > bytes_max {
                break;
            }
            best.0 = usize::MAX;
            for attempt in 0..tries.max(1) {
                // Odd multiples of Knuth's golden-ratio constant (TAOCP vol. 3, 6.4).
                let multiplier = 0x9e37_79b1_u32.wrapping_mul(2 * attempt + 1);
                let hash = Self { multiplier, shift: 32 - bits };
                let moves = hash.moves(ids, &mut taken, best.0);
                if moves < best.0 {
                    best = (moves, hash);
                }
                if moves == 0 {
                    return hash;
                }
            }
        }
        best.1
    }

    /// How far all ids together are from their own places, counted up to `enough`.
    fn moves(self, ids: &[u32], taken: &mut Vec<bool>, enough: usize) -> usize {
        taken.clear();
        taken.resize(self.places(), false);
        let mut moves = 0;
        for id in ids {
            let mut index = self.of(*id);
            while taken.get(index).is_some_and(|taken| *taken) {
                index += 1;
                moves += 1;
            }
            if moves >= enough {
                break;
            }
            match taken.get_mut(index) {
                Some(taken) => *taken = true,
                None => taken.push(true),
            }
        }
        moves
    }

    fn of(self, id: u32) -> usize {
        (id.wrapping_mul(self.multiplier) >> self.shift) as usize
    }

    fn places(self) -> usize {
        1 << (32 - self.shift)
    }
}

fn clash(one: &Method, other: &Method) -> String {
    let (one, other) = (one.description, other.description);
    if (one.service, one.name) == (other.service, other.name) {
        let name = one.service;
        return format!(
            "service '{name}' is added twice; add each service once, or give one another name with #[corewire::service(name = \"…\")]"
        );
    }
    format!(
        "methods {}/{} and {}/{} have the same id {}; give one another wire name with #[corewire(name = \"…\")]",
        one.service, one.name, other.service, other.name, one.id
    )
}

impl Dispatch for Router {
    #[inline]
    fn dispatch(
        &self,
        call: &mut Incoming<'_>,
        context: &mut Context<'_>,
        reply: &mut ReplySlot<'_>,
    ) -> Dispatched {
        let Some(method) = self.find(call.request.method) else {
            return refuse_method(call.request.method, reply);
        };
        let description = method.description;
        if call.request.flags & KIND != description.kind.request_flags() {
            return refuse_kind(description, reply);
        }
        if let Err(error) = call.request.encoding.check(description.request_codec) {
            return refuse_encoding(error, reply);
        }
        method.call(call, context, reply)
    }

    fn methods(&self) -> Vec<(MethodId, MethodName)> {
        self.places.iter().flatten().map(|(id, method)| (*id, method.name())).collect()
    }

    fn has_classes(&self) -> bool {
        let mut methods = self.places.iter().flatten();
        methods.any(|(_, method)| method.class() != ServiceClass::Normal)
    }
}

#[cold]
fn refuse_kind(description: &MethodDescription, reply: &mut ReplySlot<'_>) -> Dispatched {
    let (service, name, kind) = (description.service, description.name, description.kind);
    let text = format!("{service}/{name} is called otherwise: its calls are {kind:?}");
    reply.refuse(&Status::unimplemented(text));
    Dispatched::Replied
}

#[cold]
fn refuse_method(id: MethodId, reply: &mut ReplySlot<'_>) -> Dispatched {
    reply.refuse(&Status::unimplemented(format!("no method here has the id {id}")));
    Dispatched::Replied
}

#[cold]
fn refuse_encoding(error: UnexpectedEncoding, reply: &mut ReplySlot<'_>) -> Dispatched {
    reply.refuse(&Status::unimplemented(format!("the arguments: {error}")));
    Dispatched::Replied
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Raw;
    use bytes::Bytes;
    use corewire_codec::CodecId;
    use std::marker::PhantomData;

    fn method(service: &'static str, name: &'static str) -> &'static MethodDescription {
        Box::leak(Box::new(MethodDescription {
            id: MethodId::of(service, name),
            service,
            name,
            docs: "",
            kind: crate::description::CallKind::Unary,
            arguments: &[],
            key: None,
            reply: "Bytes",
            request_codec: CodecId::RAW,
            reply_codec: CodecId::RAW,
        }))
    }

    fn add(methods: &mut Methods, description: &'static MethodDescription) {
        methods.add(
            description,
            &Rc::new(()),
            |room| {
                room.unary::<Raw, Bytes, _, _>(PhantomData, |_, _| Ok(async { Ok(Bytes::new()) }))
            },
            None,
        );
    }

    #[test]
    fn every_method_is_found_and_no_other() {
        for count in [0usize, 1, 2, 3, 17, 200, 2000] {
            let (names, router) = with_methods(count);
            for name in names {
                let found = router.find(MethodId::of("S", name)).expect("it was added");
                assert_eq!(found.description.name, name);
            }
            for n in 0..1000 {
                assert!(router.find(MethodId::of("T", &format!("m{n}"))).is_none());
            }
        }
    }

    fn with_methods(count: usize) -> (Vec<&'static str>, Router) {
        let mut methods = Methods::default();
        let names: Vec<&'static str> = (0..count).map(|n| &*format!("m{n}").leak()).collect();
        for name in &names {
            add(&mut methods, method("S", name));
        }
        (names, Router::new(methods).expect("no two ids are equal"))
    }

    /// Few methods have no collisions; many take memory and time in proportion to their number.
    #[test]
    fn a_table_grows_in_proportion_to_its_methods() {
        let bytes = |router: &Router| router.places.capacity() * size_of::<Place>();
        for count in 1..=30 {
            let (names, router) = with_methods(count);
            let at_home = |name: &&&str| {
                let id = MethodId::of("S", name);
                let index = (id.0.wrapping_mul(router.multiplier) >> router.shift) as usize;
                router.places.get(index).is_some_and(|it| it.as_ref().is_some_and(|it| it.0 == id))
            };
            assert_eq!(names.iter().filter(at_home).count(), count);
            assert!(bytes(&router) <= SMALL_BYTES);
        }
        for count in [100, 500, 1000, 1639, 5000, 20_000] {
            let begun = std::time::Instant::now();
            let (names, router) = with_methods(count);
            // Far more than it needs: a search whose length is not bounded is what this is about.
            assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
            let bytes = bytes(&router);
            assert!(bytes <= SMALL_BYTES.max(METHOD_BYTES * count), "{count}: {bytes} bytes");
            let steps = |name: &&str| {
                let id = MethodId::of("S", name);
                let index = (id.0.wrapping_mul(router.multiplier) >> router.shift) as usize;
                let found = |place: &Place| place.as_ref().is_some_and(|it| it.0 == id);
                router.places.iter().skip(index).position(found).expect("it was added")
            };
            let steps: usize = names.iter().map(steps).sum();
            assert!(steps <= 3 * count, "{count}: {steps} steps beside the first");
        }
    }

    #[test]
    fn equal_ids_are_named() {
        let mut methods = Methods::default();
        add(&mut methods, method("S", "m"));
        add(&mut methods, method("S", "m"));
        assert!(Router::new(methods).expect_err("twice").contains("added twice"));
        let mut methods = Methods::default();
        add(&mut methods, method("Collide", "stop_prefix_metric"));
        add(&mut methods, method("Collide", "sum_find_first"));
        let error = Router::new(methods).expect_err("the ids are equal");
        assert!(
            error.contains("stop_prefix_metric") && error.contains("sum_find_first"),
            "{error}"
        );
    }
}
