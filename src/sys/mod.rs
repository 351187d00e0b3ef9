//! The machine: kernel, files, processes. Touches, never decides.

pub mod beneath;
pub mod cgroup;
pub mod child;
pub mod descriptors;
pub mod ffi;
pub mod file_watch;
pub mod frames;
pub mod image;
mod ipv6;
pub mod landlock;
pub mod lease_file;
pub mod link;
pub mod local_socket;
pub mod names;
pub mod neighbours;
pub mod netlink;
pub mod netns;
pub mod privilege;
pub mod probe;
pub mod process;
pub mod route;
pub mod rule;
pub mod socket;
pub mod stdio;
pub mod syscalls;
pub mod terminal;
pub mod termination;
