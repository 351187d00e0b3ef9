//! Protocols above IP, as people name them.

use super::Type;
use super::words::{self, Words};
use crate::net::decimal;

/// Names of protocols that people use and nft has others for: it calls 0 `ip`, which packets of IPv4 have not.
const PROTOCOLS: Words = &[(0, "hopopt"), (58, "icmpv6")];

/// A protocol above IP as a person names it.
pub fn word(protocol: u8) -> Option<&'static str> {
    words::word(PROTOCOLS, protocol.into()).or_else(|| Type::InetProto.symbol(protocol.into()))
}

/// Its number, by such a name or by digits. Not `ip`: that means 0 to nft, and IPv4 to whoever writes it.
pub fn number(name: &str) -> Option<u8> {
    let name = name.to_ascii_lowercase();
    match words::number(PROTOCOLS, &name).or_else(|| Type::InetProto.number(&name)) {
        _ if name == "ip" => None,
        Some(number) => number.try_into().ok(),
        None => decimal(&name),
    }
}
