//! From a method id to the method: one multiplication and one comparison.

use corewire_codec::{CodecId, MethodId, Status, request_flags};
use corewire_engine::{Dispatch, Dispatched, Incoming, ReplySlot};
use std::rc::Rc;
use std::task::Context;

use crate::MethodDescription;
use crate::service::{Method, Methods};

/// The methods of one shard by id: a table without collisions, found when it is made.
#[derive(Debug)]
pub(crate) struct Router {
    places: Places,
    multiplier: u32,
    shift: u32,
}

/// The flags of a request that say what kind of call it is.
const KIND: u8 = request_flags::ONE_WAY | request_flags::STREAM_IN | request_flags::STREAM_OUT;

/// Multipliers that are tried per table size before the size is doubled.
const TRIES: u32 = 64;

impl Router {
    /// A router for all methods of a shard's services.
    ///
    /// # Errors
    ///
    /// One sentence that names two methods with the same id.
    pub(crate) fn new(methods: Methods) -> Result<Self, String> {
        let list = methods.list;
        for (index, method) in list.iter().enumerate() {
            let id = method.description().id;
            if let Some(other) = list.iter().take(index).find(|other| other.description().id == id)
            {
                return Err(clash(&**other, &**method));
            }
        }
        // Ids differ, so some multiplier separates them: each size is tried with several.
        let mut bits = (list.len() * 2).next_power_of_two().trailing_zeros().max(1);
        loop {
            for attempt in 0..TRIES {
                // Odd multiples of Knuth's golden-ratio constant (TAOCP vol. 3, 6.4).
                let multiplier = 0x9e37_79b1_u32.wrapping_mul(2 * attempt + 1);
                if let Some(places) = place(&list, multiplier, 32 - bits) {
                    return Ok(Self { places, multiplier, shift: 32 - bits });
                }
            }
            bits = (bits + 1).min(24);
        }
    }

    #[inline]
    fn find(&self, id: MethodId) -> Option<&dyn Method> {
        let index = id.0.wrapping_mul(self.multiplier) >> self.shift;
        match self.places.get(index as usize) {
            Some(Some((found, method))) if *found == id => Some(&**method),
            _ => None,
        }
    }
}

type Places = Vec<Option<(MethodId, Rc<dyn Method>)>>;

fn place(list: &[Rc<dyn Method>], multiplier: u32, shift: u32) -> Option<Places> {
    let mut places: Places = Vec::new();
    places.resize_with(1 << (32 - shift), || None);
    for method in list {
        let id = method.description().id;
        let place = places.get_mut((id.0.wrapping_mul(multiplier) >> shift) as usize)?;
        if place.is_some() {
            return None;
        }
        *place = Some((id, Rc::clone(method)));
    }
    Some(places)
}

fn clash(one: &dyn Method, other: &dyn Method) -> String {
    let (one, other) = (one.description(), other.description());
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
        let description = method.description();
        if call.request.flags & KIND != description.kind.request_flags() {
            return refuse_kind(description, reply);
        }
        let (got, wanted) = (call.request.encoding.codec(), description.request_codec);
        if got != wanted {
            return refuse_codec(wanted, got, reply);
        }
        method.call(call, context, reply)
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
fn refuse_codec(wanted: CodecId, got: CodecId, reply: &mut ReplySlot<'_>) -> Dispatched {
    let text = format!("this method's arguments are encoded as {wanted}, not {got}");
    reply.refuse(&Status::unimplemented(text));
    Dispatched::Replied
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Raw;
    use bytes::Bytes;

    fn method(service: &'static str, name: &'static str) -> &'static MethodDescription {
        Box::leak(Box::new(MethodDescription {
            id: MethodId::of(service, name),
            service,
            name,
            docs: "",
            kind: crate::CallKind::Unary,
            arguments: &[],
            reply: "Bytes",
            request_codec: CodecId::RAW,
            reply_codec: CodecId::RAW,
        }))
    }

    fn add(methods: &mut Methods, description: &'static MethodDescription) {
        methods.unary::<Raw, Bytes, _, _>(description, |_| Ok(async { Ok(Bytes::new()) }));
    }

    #[test]
    fn every_method_is_found_and_no_other() {
        for count in [0usize, 1, 2, 3, 17, 200, 2000] {
            let mut methods = Methods::default();
            let names: Vec<&'static str> = (0..count).map(|n| &*format!("m{n}").leak()).collect();
            for name in &names {
                add(&mut methods, method("S", name));
            }
            let router = Router::new(methods).expect("no two ids are equal");
            for name in names {
                let found = router.find(MethodId::of("S", name)).expect("it was added");
                assert_eq!(found.description().name, name);
            }
            assert!(router.find(MethodId::of("S", "absent")).is_none());
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
