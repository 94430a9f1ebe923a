//! A tuple of layers is a layer: the first is the outermost.

use corewire_codec::Status;

use super::{CallEnd, CallView, Guard, Layer};

impl Layer for () {
    type Guard = ();

    #[inline]
    fn begin(&self, _: &mut CallView<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl<A: Guard, B: Guard> Guard for (A, B) {
    #[inline]
    fn end(self, end: &mut CallEnd) {
        self.1.end(end);
        self.0.end(end);
    }
}

/// Asks the next layer inwards. The outer layers are told of a refusal as of any other end.
#[inline]
fn chain<A: Guard, B: Layer>(
    outer: A,
    inner: &B,
    call: &mut CallView<'_>,
) -> Result<(A, B::Guard), Status> {
    match inner.begin(call) {
        Ok(inner) => Ok((outer, inner)),
        Err(status) => {
            outer.end(&mut CallEnd::new(status.code()));
            Err(status)
        }
    }
}

macro_rules! tuple {
    ($first:ident 0, $($layer:ident $place:tt),+ => $guard:ty) => {
        impl<$first: Layer, $($layer: Layer),+> Layer for ($first, $($layer),+) {
            type Guard = $guard;

            #[inline]
            fn begin(&self, call: &mut CallView<'_>) -> Result<Self::Guard, Status> {
                let guard = self.0.begin(call)?;
                $(let guard = chain(guard, &self.$place, call)?;)+
                Ok(guard)
            }

            fn check(&self) -> Result<(), String> {
                self.0.check()?;
                $(self.$place.check()?;)+
                Ok(())
            }
        }
    };
}

tuple!(A 0, B 1 => (A::Guard, B::Guard));
tuple!(A 0, B 1, C 2 => ((A::Guard, B::Guard), C::Guard));
tuple!(A 0, B 1, C 2, D 3 => (((A::Guard, B::Guard), C::Guard), D::Guard));
tuple!(A 0, B 1, C 2, D 3, E 4 => ((((A::Guard, B::Guard), C::Guard), D::Guard), E::Guard));
