//! The name servers that `--upstream` names.

use std::net::{IpAddr, SocketAddr};

use crate::config::serve::{ServeOptions, Upstream};
use crate::facts::not_to_be_asked;

/// The servers the user names, and those among them that are not asked, each with why.
pub(super) fn configured_upstreams(
    options: &ServeOptions,
    ours: &[Option<IpAddr>],
) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut servers, mut skipped) = (Vec::new(), Vec::new());
    for Upstream(server) in &options.upstream {
        let canonical = SocketAddr::new(server.ip().to_canonical(), server.port());
        let unscoped = matches!(server, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0);
        let why = if canonical.port() == 53 && ours.contains(&Some(canonical.ip())) {
            // The question would come back for ever.
            Some("this server's own address")
        } else if unscoped {
            Some("a link-local address without its interface, as in [fe80::1%2]:53 with its index")
        } else {
            not_to_be_asked(canonical.ip())
        };
        match why {
            Some(why) => skipped.push(format!("\"{server}\": {why}")),
            None if servers.contains(server) => {}
            None => servers.push(*server),
        }
    }
    (servers, skipped)
}
