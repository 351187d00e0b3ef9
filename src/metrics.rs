//! What is measured, as a page that Prometheus reads: one table of families, a writer of two formats, and what a
//! snapshot of the launcher says of each family.
//!
//! ```text
//!  collect ──► Snapshot ──► samples ──► Page ──► OpenMetrics 1.0, or text 0.0.4
//!                            the other half's page ──┘ merge
//! ```
//!
//! Pure: nothing is asked here. What was not had is left out, never zero or a number that means "unknown". Labels come
//! from fixed lists, or are the names of disks, cut and escaped; no address and no secret is in any of them.

mod families;
mod page;
mod qemu;
mod samples;
mod snapshot;
#[cfg(test)]
mod tests;

pub use families::{FAMILIES, Family, Id, Kind};
pub use page::{Format, Page, Value};
pub use qemu::{Balloon, Disk, Qemu, balloon, blocks, stats, vcpus};
pub use samples::samples;
pub use snapshot::*;
