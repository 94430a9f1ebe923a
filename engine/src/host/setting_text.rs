//! Settings that a file states as one word of text, like their `Display`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

use crate::host::choice::Host;
use crate::host::placement::Placement;
use crate::identity::Spin;

macro_rules! as_text {
    ($($type:ty, $name:literal;)*) => { $(
        /// As text, like its `Display`.
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(|error| D::Error::custom(format_args!("{}: {error}", $name)))
            }
        }
    )* };
}

as_text! {
    Spin, "spin";
    Placement, "placement";
    Host, "host";
}
