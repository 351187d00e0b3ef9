//! The plan: everything `berth run` will do, decided before anything is touched.
//!
//! A pure function of (Config, Facts). A Plan that exists can be applied; `apply` twice equals once.

pub mod disk;
pub mod guest;
pub mod link;
pub mod machine;
pub mod nat;

pub use disk::DiskPlan;
pub use guest::GuestPlan;
pub use link::LinkPlan;
