//! IPv6 of one link: off or on, and deaf to routers, where /proc/sys can be written.
//!
//! Mostly it cannot: a container's is read-only, and rtnetlink sets neither (net/ipv6/addrconf.c `inet6_set_link_af`
//! takes the token and the mode of addresses only). So nothing rests on it; what drops the guest's IPv6 is a rule.

use std::io;
use std::path::{Path, PathBuf};

use crate::net::IfName;

pub(super) const CONF: &str = "/proc/sys/net/ipv6/conf";
/// Deaf first: there is no moment in which it is on and listens.
const WANTED: [(&str, &str); 2] = [("accept_ra", "0"), ("disable_ipv6", "1")];

/// Turns it off in the calling thread's network namespace; whether anything had to be done, and could be.
pub fn without(link: &IfName) -> bool {
    let dir = Path::new(CONF).join(link.as_str());
    WANTED
        .into_iter()
        .fold(false, |changed, (name, value)| changed | set(dir.join(name), value).unwrap_or(false))
}

/// Turns it on there, deaf to routers where that can be had; whether anything had to be done.
///
/// # Errors
///
/// It is off, and stays so.
pub fn with(link: &IfName) -> io::Result<bool> {
    let dir = Path::new(CONF).join(link.as_str());
    let deaf = set(dir.join("accept_ra"), "0").unwrap_or(false);
    Ok(set(dir.join("disable_ipv6"), "0")? || deaf)
}

fn set(path: PathBuf, value: &str) -> io::Result<bool> {
    if std::fs::read_to_string(&path)?.trim_end() == value {
        return Ok(false);
    }
    std::fs::write(path, value).map(|()| true)
}
