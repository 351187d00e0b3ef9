//! What the guest's agent says, as `berth status` shows it.

use std::time::{Instant, SystemTime};

use super::moments::unix_ms;
use crate::status::Agent;
use crate::supervise::agent::Known;

/// A guest may have as many as it likes.
const MAX_ADDRESSES: usize = 64;

pub(super) fn said(known: &Known, begun: (Instant, SystemTime)) -> Agent {
    let Known { presence, version, os, host_name, interfaces, heard, .. } = known;
    let all = interfaces.iter().flat_map(|interface| &interface.addresses);
    let addresses = all.map(|address| address.address).filter(|address| !address.is_loopback());
    Agent {
        state: presence.as_str().to_owned(),
        version: version.clone(),
        os: os.as_ref().and_then(|os| os.pretty_name.clone().or_else(|| os.id.clone())),
        host_name: host_name.clone(),
        addresses: addresses.take(MAX_ADDRESSES).collect(),
        heard_ms: heard.map(|at| unix_ms(begun, at)),
    }
}
