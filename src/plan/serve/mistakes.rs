//! All that is wrong with the words, once one of it has ended the plan.

use super::{Error, addresses, dns, lease_time, networks, outside, parameters, six};
use crate::config::serve::ServeOptions;
use crate::facts::{Interface, Resolver};

/// What else is wrong where the `first` mistake ended the plan, so that all of it can be mended at once.
pub fn mistakes(
    first: Error,
    options: &ServeOptions,
    interface: &Interface,
    resolver: &Resolver,
) -> Vec<Error> {
    let mut all = vec![first];
    let address = options.address.or(interface.addresses.first().copied());
    if address.is_none() && !six::is_alone(options) {
        return all;
    }
    let mut also = |found: Option<Error>| match found {
        Some(found) if !all.contains(&found) => all.push(found),
        _ => {}
    };
    if let Some(address) = address.filter(|_| !options.no_dhcp && !six::is_alone(options)) {
        also(lease_time(options).err());
        also(parameters(options, interface, address).err());
        also(networks::check(options, address).err());
        for span in &options.range {
            also(outside(*span, address));
        }
        for relayed in &options.relayed {
            also(outside(relayed.span, relayed.network));
        }
        also(addresses(options).err());
    }
    let six = six::plan(options, interface, &mut Vec::new());
    let address6 = six.as_ref().ok().and_then(|six| Some(six.as_ref()?.address));
    also(six.err());
    if !options.no_dns {
        also(dns::plan(options, address, address6, resolver).err());
    }
    all
}
