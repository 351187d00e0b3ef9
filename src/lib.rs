//! berth runs a virtual machine inside a container or pod and makes it *be* the pod on the network.
//!
//! Read the rooms in the order the data walks:
//!
//! ```text
//! env, argv ──► config ─┐                                     guest  ⇄ serve ──── proto: dhcp4 dns (pure)
//!                       ├─► plan ──► apply ──► kernel: links,  QEMU   ⇄ supervise ─ proto: qmp lifecycle (pure)
//! pod ──► probe ► facts ┘  (desired)          one nft batch,
//!                                              disks
//! ```
//!
//! Pure rooms (`config`, `facts`, `faults`, `plan`, `proto`, `nft`, `iso`, `metrics`) think and never touch; `sys` touches and never
//! decides; the verbs (`apply`, `confine`, `serve`, `supervise`, `observe`, `halves`, `inspect`, `collect`,
//! `status`, `doctor`, `selftest`) see both, and never each other; `console` is what all readers of the serial line share, this process's and
//! others; `network` (made, served, healed), `readiness`, `web` and `control` put them together. What they log leaves by `log`, and each
//! error says its exit code by `exit`. The program is `main` (arguments, log, runtime) and its `verbs`. `tests/pure/layers.rs` holds all of them to that.

pub mod cli;
pub mod config;
pub mod exit;
pub mod facts;
pub mod faults;
pub mod plan;

pub mod apply;
pub mod collect;
pub mod confine;
pub mod console;
pub mod control;
pub mod doctor;
pub mod halves;
pub mod inspect;
pub mod log;
pub mod metrics;
pub mod network;
pub mod observe;
pub mod readiness;
pub mod selftest;
pub mod serve;
pub mod status;
pub mod supervise;
pub mod web;

pub mod iso;
pub mod net;
pub mod nft;
pub mod proto;
pub mod ram;
pub mod sys;
pub mod validate;
