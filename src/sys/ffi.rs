//! The only `unsafe` code: system calls no crate wraps safely. One operation per block, each with its reason.
#![allow(unsafe_code)]
