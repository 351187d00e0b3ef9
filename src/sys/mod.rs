//! The machine: kernel, files, processes. Touches, never decides.

pub mod cgroup;
pub mod child;
pub mod ffi;
pub mod file_watch;
pub mod image;
pub mod lease_file;
pub mod link;
pub mod netlink;
pub mod netns;
pub mod probe;
pub mod route;
pub mod rule;
pub mod socket;
pub mod stdio;
pub mod terminal;
