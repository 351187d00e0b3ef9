//! The ladder under a virtual clock, and random lives.
