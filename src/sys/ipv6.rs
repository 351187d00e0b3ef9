//! IPv6 of one link: off or on, and deaf to routers, where /proc/sys can be written.
//!
//! Mostly it cannot: a container's is read-only, and rtnetlink sets neither (net/ipv6/addrconf.c `inet6_set_link_af`
//! takes the token and the mode of addresses only). So nothing rests on it; what drops the guest's IPv6 is a rule.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use crate::facts::Forwarding;
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

/// What forwarding of IPv6 is here.
pub(super) fn forwarding() -> Forwarding {
    let is_on = std::fs::read_to_string(conf("all", "forwarding")).is_ok_and(|text| is_set(&text));
    if is_on {
        Forwarding::Others
    } else if OpenOptions::new().write(true).open(conf("all", FORCED)).is_ok() {
        Forwarding::Ours
    } else {
        Forwarding::Off
    }
}

/// Of one link, whatever the others are, and without making a router of the pod, which would hear no other one any more:
/// Linux 6.17 has it.
const FORCED: &str = "force_forwarding";

fn conf(link: &str, name: &str) -> PathBuf {
    Path::new(CONF).join(link).join(name)
}

fn is_set(text: &str) -> bool {
    text.trim_end() != "0"
}

/// What comes by these links is sent on; whether anything had to be done. One that is not there any more is passed by.
///
/// # Errors
///
/// It is not, and that cannot be changed.
pub fn forward(links: &[&IfName]) -> io::Result<bool> {
    if is_set(&std::fs::read_to_string(conf("all", "forwarding"))?) {
        return Ok(false);
    }
    std::fs::metadata(conf("all", FORCED))?;
    let mut changed = false;
    for link in links {
        match set(conf(link.as_str(), FORCED), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => changed |= done?,
        }
    }
    Ok(changed)
}

/// The end of [`forward`], where it was us: the last of these links is our own. Whether anything had to be done.
pub fn forward_no_more(links: &[&IfName]) -> bool {
    let is_forced = |link: &&&IfName| {
        std::fs::read_to_string(conf(link.as_str(), FORCED)).is_ok_and(|text| is_set(&text))
    };
    let was_us = links.last().iter().any(is_forced);
    was_us
        && links.iter().fold(false, |changed, link| {
            changed | set(conf(link.as_str(), FORCED), "0").unwrap_or(false)
        })
}

fn set(path: PathBuf, value: &str) -> io::Result<bool> {
    if std::fs::read_to_string(&path)?.trim_end() == value {
        return Ok(false);
    }
    std::fs::write(path, value).map(|()| true)
}
