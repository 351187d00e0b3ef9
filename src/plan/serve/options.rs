//! Options by number that say what something else says too: one source each, so that no two answers differ.
//!
//! ```text
//! 3, 121, 249     the router and the routes: one list, laid out for both kinds of clients
//! 1, 28           the mask, and what follows from it
//! 6  15  119      --dns, --domain, --search
//! 12, 81          the name that clients without one of their own get
//! 66, 67          --next-server (and siaddr), --boot-file (and the field `file`)
//! ```
//!
//! Where a flag says it as well, or two numbers say different things, nobody could know which is meant: refused. 150
//! (telephones' TFTP servers) and 2, 100, 101 (clocks) are of different clients and stay what they are.

use std::net::Ipv4Addr;

use super::Error;
use crate::config::serve::{BootFor, ServeOptions};
use crate::net::{Ipv4Prefix, longest_around};
use crate::proto::dhcp4::{Boot, BootClient, Parameters, Subnet, decode_routes, encode};

const ROUTER: u8 = 3;
const DNS: u8 = 6;
const HOST_NAME: u8 = 12;
const DOMAIN: u8 = 15;
const BROADCAST: u8 = 28;
const STATIC_ROUTES: u8 = 33;
const BOOT_SERVER: u8 = 66;
const BOOT_FILE: u8 = 67;
const SEARCH: u8 = 119;
const ROUTES: u8 = 121;
const ROUTES_MICROSOFT: u8 = 249;

/// Adds what is told by number.
pub(super) fn add(options: &ServeOptions, parameters: &mut Parameters) -> Result<(), Error> {
    for option in &options.options {
        let value = encode(option.code, &option.words)?;
        if parameters.options.insert(option.code, value).is_some() {
            return Err(Error::OptionTwice(option.code));
        }
    }
    let is_said = |code| parameters.options.contains_key(&code);
    let any_boot = options.boot_file.iter().any(|boot| boot.clients.contains(&BootFor::Any));
    let flags = [
        (ROUTER, "--router", options.router.is_some()),
        (DNS, "--dns", !options.dns.is_empty()),
        (DOMAIN, "--domain", options.domain.is_some()),
        (SEARCH, "--search", !options.search.is_empty()),
        (BOOT_SERVER, "--next-server", options.next_server.is_some()),
        (BOOT_FILE, "--boot-file", any_boot),
    ];
    if let Some((code, flag, _)) =
        flags.into_iter().find(|(code, _, by_flag)| *by_flag && is_said(*code))
    {
        return Err(Error::SaidTwice { code, flag });
    }
    if is_said(STATIC_ROUTES) && !is_said(ROUTES) {
        return Err(Error::StaticRoutes);
    }
    names(options, parameters);
    boot(parameters);
    routes(parameters)
}

/// Text, of an option that is not sent as it is then.
fn text(parameters: &mut Parameters, code: u8) -> Option<String> {
    let text = std::str::from_utf8(parameters.options.get(&code)?).ok()?.to_owned();
    parameters.options.remove(&code);
    Some(text)
}

fn addresses(octets: &[u8]) -> Vec<Ipv4Addr> {
    octets.as_chunks().0.iter().map(|octets| Ipv4Addr::from_octets(*octets)).collect()
}

fn names(options: &ServeOptions, parameters: &mut Parameters) {
    if let Some(octets) = parameters.options.remove(&DNS) {
        parameters.dns = addresses(&octets);
    }
    if let Some(name) = text(parameters, DOMAIN) {
        parameters.domain = Some(name);
    }
    if let Some(name) = text(parameters, HOST_NAME).filter(|name| !name.is_empty()) {
        parameters.host_name = Some(name);
    }
    let words =
        options.options.iter().find(|option| option.code == SEARCH).map(|option| &option.words);
    if let Some(words) = words.filter(|words| !words.starts_with("hex:")) {
        let names =
            words.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        parameters.search = names.collect();
        parameters.options.remove(&SEARCH);
    }
}

/// An address in 66 is siaddr, too: ROMs look at nothing else. Telephones take a name there, or a URL.
fn boot(parameters: &mut Parameters) {
    let server =
        parameters.options.get(&BOOT_SERVER).and_then(|octets| std::str::from_utf8(octets).ok());
    if let Some(server) = server.and_then(|text| text.parse().ok()) {
        parameters.next_server = Some(server);
        parameters.options.remove(&BOOT_SERVER);
    }
    if let Some(file) = text(parameters, BOOT_FILE).filter(|file| !file.is_empty()) {
        parameters.boot.push(Boot { client: BootClient::Any, file });
    }
}

fn routes(parameters: &mut Parameters) -> Result<(), Error> {
    if let Some(octets) = parameters.options.get(&ROUTER) {
        let listed = addresses(octets);
        parameters.router = listed.first().copied();
        if listed.len() < 2 {
            parameters.options.remove(&ROUTER);
        }
    }
    let by_number = [ROUTES, ROUTES_MICROSOFT].map(|code| parameters.options.get(&code).cloned());
    let octets = match by_number {
        [None, None] => return Ok(()),
        [Some(a), Some(b)] if a != b => return Err(Error::RoutesDiffer),
        [a, b] => a.or(b).unwrap_or_default(),
    };
    if octets.is_empty() {
        // No words: none of the two is sent.
        parameters.options.extend([(ROUTES, Vec::new()), (ROUTES_MICROSOFT, Vec::new())]);
        return Ok(());
    }
    let routes = decode_routes(&octets).ok_or(Error::NoRoutes)?;
    parameters.options.retain(|code, _| ![ROUTES, ROUTES_MICROSOFT].contains(code));
    parameters.routes = routes;
    Ok(())
}

/// What is told by number of routers, routes and the broadcast address is of the link itself: behind a relay it leads
/// nowhere. A route goes to the clients of its router's network; a default route among them is the router's, too.
pub(super) fn divide(options: &ServeOptions, subnets: &mut [Subnet]) -> Result<(), Error> {
    let networks: Vec<(Ipv4Prefix, bool)> =
        subnets.iter().map(|subnet| (subnet.network, subnet.relayed)).collect();
    let home = |by: Ipv4Addr| {
        let longest = longest_around(networks.iter(), |(network, _)| *network, by);
        longest.filter(|(_, relayed)| *relayed).map(|(network, _)| *network)
    };
    let is_told =
        options.router.is_some() || options.options.iter().any(|option| option.code == ROUTER);
    for subnet in subnets {
        let own = subnet.relayed.then_some(subnet.network);
        let parameters = &mut subnet.parameters;
        parameters.routes.retain(|(_, by)| home(*by) == own);
        if subnet.relayed {
            parameters.options.retain(|code, _| ![ROUTER, BROADCAST].contains(code));
        }
        let Some(&(_, by)) = parameters.routes.iter().find(|(to, _)| to.length == 0) else {
            continue;
        };
        match parameters.router {
            Some(router) if router != by && (is_told || subnet.relayed) => {
                return Err(Error::TwoDefaults { router, by });
            }
            // --router none: in these words only.
            None => {}
            Some(_) => parameters.router = Some(by),
        }
    }
    Ok(())
}
