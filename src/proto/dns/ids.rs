//! Where message ids come from.

use std::fmt;

/// The ports are the kernel's; both together are RFC 5452's.
pub(super) struct Ids(pub Box<dyn FnMut() -> Option<u16> + Send>);

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids")
    }
}
