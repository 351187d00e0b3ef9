//! QEMU's command line.

use std::path::PathBuf;

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {}

/// A file QEMU is handed as an open descriptor, so that its uid needs no right to the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Handed {
    /// Queue number `0` of the tap.
    TapQueue(u16),
    /// One end of a socket pair that carries QMP.
    Qmp,
    /// One end of a socket pair that carries the serial console.
    Serial,
    /// A disk, opened read-write or read-only; the member of fd set N.
    Disk { path: PathBuf, writable: bool, fdset: u32 },
}
