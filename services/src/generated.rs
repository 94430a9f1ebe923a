//! What the code that [`macro@crate::service`] generates names, and nobody else. It may change with each release.

#[doc(no_inline)]
pub use corewire_codec::message;
#[cfg(feature = "json")]
pub use serde;
pub use speedy;

#[cfg(feature = "shard")]
pub use crate::server::{
    answer::{Answer, Answered},
    incoming::{Arguments, IncomingCall, KeyOf},
    slot::{Handler, MakeSlot, Methods, Room},
};
#[cfg(not(feature = "shard"))]
pub use crate::streaming::no_shard::{Channel, StreamReader};
pub use crate::{
    client::caller::{Caller, Prepare},
    client::request::{Listed, Values, WriteValues, no_values, raw_value},
    encoding::{Argument, Carries, argument, carried},
    streaming::{
        end_listeners::{EndListener, EndListeners},
        queue::{Queue, QueueReceiver},
        transport::{StartedCall, StartedOn},
        wire::Wire,
    },
};
