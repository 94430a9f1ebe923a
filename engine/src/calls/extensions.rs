//! What the layers around a call hand to its handler.

use std::any::{Any, TypeId};
use std::fmt;

/// Values by their types, one of each. Without any it owns no memory; the first value costs two allocations, each
/// further one another.
#[derive(Default)]
pub struct Extensions(Option<Box<List>>);

type List = Vec<(TypeId, Box<dyn Any>)>;

impl Extensions {
    /// Adds a value; returns the one of the same type that was there before.
    pub fn insert<T: 'static>(&mut self, value: T) -> Option<T> {
        let list = self.0.get_or_insert_default();
        let id = TypeId::of::<T>();
        let former = list.iter().position(|(it, _)| *it == id).map(|at| list.swap_remove(at).1);
        list.push((id, Box::new(value)));
        former.and_then(|former| former.downcast().ok()).map(|former| *former)
    }

    /// Drops what nobody took.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.0.is_some() {
            self.0 = None;
        }
    }

    /// The value of this type.
    #[must_use]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let list = self.0.as_ref()?;
        let found = list.iter().find(|(it, _)| *it == TypeId::of::<T>());
        found.and_then(|(_, value)| value.downcast_ref())
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map_or(0, |list| list.len());
        f.debug_struct("Extensions").field("count", &count).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_of_each_type_is_kept() {
        let mut extensions = Extensions::default();
        assert_eq!(extensions.get::<u8>(), None);
        assert_eq!(extensions.insert(1_u8), None);
        assert_eq!(extensions.insert("text"), None);
        assert_eq!(extensions.insert(2_u8), Some(1));
        assert_eq!((extensions.get(), extensions.get()), (Some(&2_u8), Some(&"text")));
    }
}
