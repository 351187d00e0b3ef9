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
pub(super) fn forwarding(uplink: &IfName) -> Forwarding {
    let every = Path::new(CONF).join("all/forwarding");
    let is_writable = |path: &Path| OpenOptions::new().write(true).open(path).is_ok();
    let is_on = std::fs::read_to_string(&every).is_ok_and(|text| text.trim_end() != "0");
    if is_writable(&every) || is_writable(&forced(uplink)) {
        Forwarding::Ours
    } else if is_on {
        Forwarding::Others
    } else {
        Forwarding::Off
    }
}

/// Of one link, whatever the others are, and without making a router of the pod: Linux 6.17 has it.
fn forced(link: &IfName) -> PathBuf {
    Path::new(CONF).join(link.as_str()).join("force_forwarding")
}

/// What comes by these links is sent on; whether anything had to be done.
///
/// # Errors
///
/// It is not, and that cannot be changed.
pub fn forward(uplink: &IfName, bridge: &IfName) -> io::Result<bool> {
    let every = Path::new(CONF).join("all/forwarding");
    if std::fs::read_to_string(&every)?.trim_end() != "0" {
        return Ok(false);
    }
    let forced = [uplink, bridge].map(forced);
    if forced.iter().all(|path| path.exists()) {
        let done: io::Result<Vec<bool>> = forced.into_iter().map(|path| set(path, "1")).collect();
        return Ok(done?.contains(&true));
    }
    // A router hears no other one, whose route would go: 2 is to hear it all the same (Documentation/networking/ip-sysctl.rst).
    let hears = Path::new(CONF).join(uplink.as_str()).join("accept_ra");
    if std::fs::read_to_string(&hears)?.trim_end() == "1" {
        set(hears, "2")?;
    }
    set(every, "1")
}

fn set(path: PathBuf, value: &str) -> io::Result<bool> {
    if std::fs::read_to_string(&path)?.trim_end() == value {
        return Ok(false);
    }
    std::fs::write(path, value).map(|()| true)
}
