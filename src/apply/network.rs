//! Links, routes and rules of the network half.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::{Error, TAP_COMES};
use crate::net::{IfName, Ipv6Prefix, MacAddr};
use crate::nft::Family;
use crate::nft::dump::{Elements, Filter, Rules};
use crate::nft::explain::{Question, Route};
use crate::plan::link::LinkPlan;
use crate::plan::nat::{Abilities, Indices};
use crate::plan::{self, Ipv6Plan, NetPlan, RoutePlan, nat};
use crate::sys::link::{self, Bridge, Ipv6On, Links, Tap, Version};
use crate::sys::netlink::Firewall;
use crate::sys::route;

/// Between two looks for the tap.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// What is of no use to a guest that does not run yet waits for so long: the kernel walks all connections of the machine.
const QEMU_STARTS: Duration = Duration::from_millis(100);
/// An address to which only a default route leads (RFC 5737).
const SOMEBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Bridge, tap, forwarding; returns their numbers.
#[expect(clippy::disallowed_methods, reason = "a verb: durations are measured here")]
pub async fn links(plan: &LinkPlan, links: &Links) -> Result<Indices, Error> {
    let started = Instant::now();
    let was_there = links.exists(&plan.bridge.name).await?;
    let bridge = links.ensure_bridge(&bridge_of(plan)).await?;
    let tap = links.ensure_tap(&tap_of(plan), bridge).await?;
    forwarding(plan, links).await?;
    if was_there || plan.ipv4.own().is_some() {
        ipv4(plan, links).await?;
    }
    let (bridge_name, tap_name, mtu) = (&plan.bridge.name, &plan.tap.name, plan.bridge.mtu);
    tracing::info!(bridge = %bridge_name, tap = %tap_name, mtu, took_ms = started.elapsed().as_millis(), "links ready");
    Ok(Indices { bridge, tap })
}

/// The guest as a neighbour of bridge and tap, where it has the pod's IPv4 address. On the bridge under that, too: whose
/// MAC it is the kernel asks when its packets have their last address (`ip_finish_output2`). Behind NAT it has none of
/// those, which a launcher with other settings may have left.
pub async fn ipv4(plan: &LinkPlan, links: &Links) -> Result<(), Error> {
    let (bridge, tap, version) = (&plan.bridge.name, &plan.tap.name, Version::Four);
    let mac = plan.ipv4.own().map_or(MacAddr([0; 6]), |own| own.mac);
    let aliases: Vec<IpAddr> = plan.ipv4.own().iter().map(|own| own.alias.into()).collect();
    let pod = plan.ipv4.own().map(|own| IpAddr::V4(own.pod));
    let of_bridge: Vec<IpAddr> = aliases.iter().copied().chain(pod).collect();
    links.ensure_neighbours(bridge, version, &of_bridge, mac).await?;
    links.ensure_neighbours(tap, version, &aliases, mac).await?;
    Ok(())
}

/// Who the guest is, behind NAT, told to the bridge before it has said so itself: by its plan, or as the `client` that took
/// the address.
pub async fn guest(plan: &NetPlan, client: Option<MacAddr>, links: &Links) -> Result<(), Error> {
    if plan.guest.alias.is_none() {
        let address = IpAddr::V4(plan.guest.address.address);
        let (mac, bridge) = (client.unwrap_or(plan.guest.mac), &plan.link.bridge.name);
        links.suggest_neighbour(bridge, address, mac, client.is_some()).await?;
    }
    Ok(())
}

/// What the links have of IPv6, where the guest has some: addresses, neighbours, and the tap for router advertisements.
pub async fn ipv6(plan: &LinkPlan, bridge: u32, links: &Links) -> Result<(), Error> {
    let Some(guest) = plan.ipv6.guest() else { return Ok(()) };
    let router = Ipv6Prefix { address: plan::ipv6::ROUTER, ..plan::ipv6::NETWORK };
    let gateway = Ipv6Prefix { address: plan::ipv6::GATEWAY, ..plan::ipv6::NETWORK };
    let wanted = Ipv6On {
        bridge: &plan.bridge.name,
        addresses: &[router, gateway],
        tap: &plan.tap.name,
        guest: &guest.known_by,
        mac: guest.mac,
    };
    links.ensure_ipv6(&wanted).await?;
    let mtu = plan.bridge.mtu;
    let port = link::Port::Control;
    let control = Tap { name: &guest.control, mtu, queues: 1, owner: 0, ipv6: false, port };
    // Held by the router's task as a guest's is by QEMU.
    links.mend_tap(&control, bridge).await?;
    Ok(())
}

/// Forwarding of IPv6, where the guest's is translated, and nowhere else: when the rules are there that close it to others.
pub fn forwarding6(plan: &NetPlan, links: &Links) -> Result<(), Error> {
    let further = plan.route.further.iter().map(|further| &further.name);
    let of: Vec<&IfName> = further.chain([&plan.link.uplink, &plan.link.bridge.name]).collect();
    links.ensure_forwarding6(&of, plan.link.ipv6.nat().is_some())?;
    Ok(())
}

/// Waits for the tap that `berth net` makes.
pub async fn tap(name: &IfName, links: &Links) -> Result<(), Error> {
    let there = async {
        if !links.exists(name).await? {
            tracing::info!(tap = %name, limit_s = TAP_COMES.as_secs(), "waiting for the tap that `berth net` makes");
        }
        while !links.exists(name).await? {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    };
    tokio::time::timeout(TAP_COMES, there).await.unwrap_or_else(|_| Err(Error::NoTap(name.clone())))
}

/// The same while a guest runs, without a word: only what is missing or different is touched.
pub async fn mend_links(plan: &LinkPlan, links: &Links) -> Result<Indices, Error> {
    let bridge = links.ensure_bridge(&bridge_of(plan)).await?;
    let (tap, is_new) = links.mend_tap(&tap_of(plan), bridge).await?;
    if plan.ipv4.own().is_some() {
        ipv4(plan, links).await?;
    }
    if is_new {
        tracing::error!(tap = %plan.tap.name, "the tap was removed: a guest that was attached to it has no network until it is started again");
    }
    forwarding(plan, links).await?;
    Ok(Indices { bridge, tap })
}

/// Forwarding on the pod's further interfaces, and rules of policy routing. What of it cannot be had is no end: it is
/// returned in words.
pub async fn routes(plan: &RoutePlan, links: &Links) -> Result<Vec<String>, Error> {
    links.ensure_rules(&plan.rules).await?;
    let mut lost = Vec::new();
    for further in &plan.further {
        let (name, networks) = (&further.name, &further.networks);
        match links.ensure_forwarding(name).await {
            Ok(()) | Err(link::Error::Vanished(_)) => {}
            Err(error) => {
                let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
                let why = crate::exit::error_chain(&error);
                lost.push(format!(
                    "the guest does not reach {} ({name}): {why}",
                    networks.join(", ")
                ));
            }
        }
    }
    Ok(lost)
}

/// The guest's packets leave wherever the pod's would: asked of the kernel, with the links and rules made.
pub(crate) async fn way_out(plan: &NetPlan, bridge: u32, links: &Links) -> Result<(), Error> {
    let (guest, Some(&pod)) = (plan.mapping.guest, plan.mapping.pod.first()) else { return Ok(()) };
    let question = |from: Ipv4Addr, iif| Question {
        from: Some(from.into()),
        to: SOMEBODY.into(),
        iif,
        oif: None,
        mark: 0,
    };
    if let Route::To { .. } = route::answer(links.handle(), &question(pod, None)).await?
        && let Route::None(why) =
            route::answer(links.handle(), &question(guest, Some(bridge))).await?
    {
        return Err(Error::NoWayOut { guest, pod, why });
    }
    Ok(())
}

async fn forwarding(plan: &LinkPlan, links: &Links) -> Result<(), Error> {
    links.ensure_forwarding(&plan.bridge.name).await?;
    links.ensure_forwarding(&plan.uplink).await?;
    Ok(())
}

fn bridge_of(plan: &LinkPlan) -> Bridge<'_> {
    let bridge = &plan.bridge;
    let ipv6 = plan.ipv6.guest().is_some();
    Bridge { name: &bridge.name, mac: bridge.mac, mtu: bridge.mtu, address: bridge.address, ipv6 }
}

fn tap_of(plan: &LinkPlan) -> Tap<'_> {
    let LinkPlan { bridge, tap, ipv6, .. } = plan;
    let ipv6 = ipv6.guest().is_some();
    let port = link::Port::Guest;
    Tap { name: &tap.name, mtu: bridge.mtu, queues: tap.queues, owner: tap.owner, ipv6, port }
}

/// The rules, in one transaction: the generation in which they hold, and what this kernel's tables can hold.
pub(crate) async fn learn(
    plan: &NetPlan,
    mut abilities: Abilities,
    indices: Indices,
    firewall: &Firewall,
) -> Result<(u32, Abilities), Error> {
    loop {
        let error = match firewall.commit(nat::for_kernel(plan, abilities, indices)).await {
            Ok(generation) => return Ok((generation, abilities)),
            Err(error) => error,
        };
        // Where rules of the operator's own need what is refused, too, the next try is refused as well.
        let less = error.refused_family(nat::TABLE).and_then(|family| abilities.without(family));
        let Some(less) = less else { return Err(error.into()) };
        let told = crate::exit::error_chain(&error);
        if less.arp != abilities.arp && plan.link.ipv4.own().is_some() {
            // Its question for the gateway has no answer then.
            return Err(error.into());
        }
        if less.arp != abilities.arp {
            tracing::warn!(
                error = told,
                "the guest can fill the node's table of neighbours: \
                use a kernel with CONFIG_NF_TABLES_ARP where guests are not trusted"
            );
        } else if less.dup {
            tracing::info!(
                reason = told,
                "the guest's own packets go by dup, which is slower than fwd"
            );
        } else {
            match &plan.on(less).link.ipv6 {
                Ipv6Plan::Off(why) => {
                    tracing::warn!(error = told, "the guest has no IPv6: {why}");
                }
                way => {
                    tracing::info!(reason = told, ipv6 = %way, "another way for the guest's IPv6");
                }
            }
        }
        abilities = less;
    }
}

/// The rules; then, off the critical path, the anchor, and flows that began before it was there.
/// Returns what this kernel's tables can hold.
#[expect(clippy::disallowed_methods, reason = "a verb: durations are measured here")]
pub async fn nat(
    plan: &NetPlan,
    known: Abilities,
    indices: Indices,
    firewall: &Firewall,
) -> Result<Abilities, Error> {
    let started = Instant::now();
    let (generation, abilities) = learn(plan, known, indices, firewall).await?;
    tracing::info!(
        table = nat::TABLE,
        generation,
        took_ms = started.elapsed().as_millis(),
        "pod address mapped"
    );
    let (firewall, mapping) = (firewall.clone(), plan.mapping.clone());
    let surplus = nat::not_in(&nat::for_kernel(plan, abilities, indices));
    tokio::spawn(async move {
        tokio::time::sleep(QEMU_STARTS).await;
        without(&surplus, &firewall).await;
        // Kernels before 5.12 have no owned tables: then a gap may cost connections.
        if let Err(error) = firewall.commit(nat::anchor()).await {
            tracing::debug!(error = %crate::exit::error_chain(&error), "no anchor for connections that exist");
        }
        match firewall.sweep(mapping).await {
            Ok(0) => {}
            Ok(flows) => tracing::info!(flows, "deleted conntrack entries from before the mapping"),
            Err(error) => {
                tracing::warn!(error = %crate::exit::error_chain(&error), "old conntrack entries were not deleted");
            }
        }
    });
    Ok(abilities)
}

/// Removes these tables where they are there: others hear of each transaction.
pub(crate) async fn without(tables: &[(Family, String)], firewall: &Firewall) {
    let filter = Filter { rules: Rules::None, elements: Elements::None, ..Filter::default() };
    let removed = async {
        let (_, found) = firewall.dump(filter).await?;
        let is_there = |(family, name): &&(Family, String)| found.table(*family, name).is_some();
        let there: Vec<_> = tables.iter().filter(is_there).cloned().collect();
        if there.is_empty() { Ok(0) } else { firewall.remove(there).await }
    };
    if let Err(error) = removed.await {
        tracing::warn!(error = %crate::exit::error_chain(&error), "tables of an earlier plan stay");
    }
}

/// Holds back what the guest sends from addresses that the pod has lost.
pub(crate) async fn close(tap: &IfName, lost: &[IpAddr], firewall: &Firewall) -> Result<(), Error> {
    firewall.commit(nat::closed(tap, lost)).await?;
    Ok(())
}

/// The end of [`close`].
pub(crate) async fn open(firewall: &Firewall) {
    without(&[(Family::NETDEV, nat::CLOSED.to_owned())], firewall).await;
}
