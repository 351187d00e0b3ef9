//! ISO 9660 images with Rock Ridge and Joliet, from bytes to bytes.

use serde::Serialize;

/// What goes into an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Volume identifier, as `blkid` shows it: `config-2`, `cidata`.
    pub label: String,
    pub files: Vec<File>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Relative, `/` between components.
    pub path: String,
    #[serde(skip)]
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}
