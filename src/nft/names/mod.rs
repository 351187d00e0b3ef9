//! nft's vocabulary, once: what its words mean in the kernel's numbers, and where header fields are.
//!
//! Listing, JSON, explanations and the compiler of extra rules all read these tables, so that what one of them writes
//! another takes. Tables and nothing else: no rule, no set, no table of nf_tables is known here.

pub mod datatype;
pub mod extension;
pub mod header;
pub mod key;
pub mod protocol;
pub mod symbols;
pub mod words;

pub use datatype::{Order, Type};
pub use words::hex;
