//! The values that a shard keeps for handles which all shards have.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// A value, and what keeps its name from being used again.
type KeptValue = (Rc<dyn Any>, Box<dyn Any>);

/// The values of all `Sharded` of one shard, by the name of the handle.
#[derive(Default)]
pub(crate) struct Values(RefCell<Vec<(usize, KeptValue)>>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("values", &self.0.borrow().len()).finish()
    }
}

impl Values {
    pub(crate) fn get(&self, name: usize) -> Option<Rc<dyn Any>> {
        let values = self.0.borrow();
        values.iter().find(|(of, _)| *of == name).map(|(_, (value, _))| Rc::clone(value))
    }

    pub(crate) fn keep(&self, name: usize, value: KeptValue) {
        self.0.borrow_mut().push((name, value));
    }

    /// Drops all; for a shard that ends.
    pub(crate) fn clear(&self) {
        let values = core::mem::take(&mut *self.0.borrow_mut());
        drop(values);
    }
}
