//! Settings that a file states as one word of text.

use crate::host::choice::Host;
use crate::host::placement::Placement;
use crate::identity::Spin;
use crate::net::steering::Steering;

corewire_codec::text_settings! {
    Spin, "spin";
    Placement, "placement";
    Host, "host";
    Steering, "steering";
}
