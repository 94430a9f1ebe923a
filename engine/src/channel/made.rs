//! The channels of a shard that are still there, for the checks of the simulator. Any other build keeps no list.

pub(crate) use here::Made;

#[cfg(not(feature = "sim"))]
mod here {
    use std::marker::PhantomData;
    use std::rc::Rc;

    #[derive(Debug)]
    pub(crate) struct Made<C>(PhantomData<C>);

    impl<C> Made<C> {
        #[inline]
        pub(crate) fn note(&self, _: &Rc<C>) {}
    }

    impl<C> Default for Made<C> {
        fn default() -> Self {
            Self(PhantomData)
        }
    }
}

#[cfg(feature = "sim")]
mod here {
    use std::cell::RefCell;
    use std::rc::{Rc, Weak};

    #[derive(Debug)]
    pub(crate) struct Made<C>(RefCell<Vec<Weak<C>>>);

    impl<C> Made<C> {
        pub(crate) fn note(&self, channel: &Rc<C>) {
            self.0.borrow_mut().push(Rc::downgrade(channel));
        }

        /// Those that are still there.
        pub(crate) fn list(&self) -> Vec<Rc<C>> {
            let mut made = self.0.borrow_mut();
            made.retain(|channel| channel.strong_count() > 0);
            made.iter().filter_map(Weak::upgrade).collect()
        }
    }

    impl<C> Default for Made<C> {
        fn default() -> Self {
            Self(RefCell::default())
        }
    }
}
