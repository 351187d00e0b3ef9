//! The verb itself.
