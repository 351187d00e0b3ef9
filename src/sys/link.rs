//! Links, addresses and forwarding over rtnetlink; the tap over its character device.
//!
//! Each step looks at what is there and changes only what differs, so that a second run, or a run after a kill
//! at any point, ends in the same state. Needs CAP_NET_ADMIN and nothing writable under /proc/sys: forwarding
//! is set per device by `IFLA_INET_CONF` (linux/ip.h IPV4_DEVCONF_FORWARDING).

mod error;
mod ipv6;
mod neighbour;
mod port;
mod statistics;
mod tun;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::TryStreamExt;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InetDevConf, InfoBridge,
    InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec,
};

use super::ipv6 as sysctl;
use crate::net::{IfName, Ipv4Prefix, MacAddr};
pub use error::Error;
pub use ipv6::Ipv6On;
pub use neighbour::Version;
pub use port::Port;
use port::port_is;
pub use statistics::Statistics;
use tun::make_tap;
pub use tun::{open_tap, try_tap, try_tun};

/// A bridge as it should be.
#[derive(Debug, Clone)]
pub struct Bridge<'a> {
    pub name: &'a IfName,
    pub mac: MacAddr,
    pub mtu: u32,
    pub address: Ipv4Prefix,
    /// Whether IPv6 is left to [`Links::ensure_ipv6`], or there is none.
    pub ipv6: bool,
}

/// A tap as it should be, port of a bridge.
#[derive(Debug, Clone)]
pub struct Tap<'a> {
    pub name: &'a IfName,
    pub mtu: u32,
    pub queues: u16,
    pub owner: u32,
    /// As of [`Bridge`].
    pub ipv6: bool,
    /// What of the bridge's frames it gets.
    pub port: Port,
}

/// One rtnetlink socket, for as long as links are worked on.
#[derive(Debug)]
pub struct Links {
    handle: Handle,
    /// Steps that changed something.
    changes: AtomicU64,
}

impl Links {
    /// Opens the socket; its task runs on the current tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        tokio::spawn(connection);
        Ok(Self { handle, changes: AtomicU64::new(0) })
    }

    /// How many steps changed something so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// rtnetlink, for those who only look.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes or mends the bridge: MAC, MTU, address, up. No spanning tree, no multicast snooping, and
    /// br_netfilter's calls off, so that the guest's own traffic back to the pod address is not lost.
    pub async fn ensure_bridge(&self, wanted: &Bridge<'_>) -> Result<u32, Error> {
        let name = wanted.name;
        let found = self.find(name).await?;
        if let Some(kind) = found.as_ref().and_then(other_kind) {
            return Err(Error::NotABridge { link: name.clone(), kind });
        }
        if found.is_none() {
            let message = bridge_options(LinkBridge::new(name.as_str()))
                .address(wanted.mac.0.to_vec())
                .mtu(wanted.mtu)
                .down()
                .build();
            let step = self.handle.link().add(message).execute().await;
            step.map_err(|error| failed(name, "making the bridge", error))?;
            self.changed();
        }
        let link = match found {
            Some(link) => link,
            None => self.find(name).await?.ok_or_else(|| Error::Vanished(name.clone()))?,
        };
        let index = link.header.index;
        if !bridge_is(&link, wanted) {
            self.without_ipv6_address(index).await;
            let message = bridge_options(LinkMessageBuilder::<LinkBridge>::new(name.as_str()))
                .address(wanted.mac.0.to_vec())
                .mtu(wanted.mtu)
                .up()
                .build();
            let step = self.handle.link().change(message).execute().await;
            step.map_err(|error| failed(name, "changing the bridge", error))?;
            self.changed();
        }
        if !wanted.ipv6 {
            self.without_ipv6(name);
        }
        self.ensure_address(name, index, wanted.address, wanted.ipv6).await?;
        Ok(index)
    }

    /// The link has this IPv4 address and no other; of IPv6 none, unless that is somebody else's matter.
    async fn ensure_address(
        &self,
        name: &IfName,
        index: u32,
        wanted: Ipv4Prefix,
        ipv6: bool,
    ) -> Result<(), Error> {
        let request = self.handle.address().get().set_link_index_filter(index).execute();
        let found: Vec<_> = request
            .try_collect()
            .await
            .map_err(|error| failed(name, "reading its addresses", error))?;
        let mut there = false;
        for message in found {
            match address_of(&message) {
                Some(address) if address == wanted => there = true,
                None if ipv6 => {}
                _ => {
                    let step = self.handle.address().del(message).execute().await;
                    step.map_err(|error| failed(name, "removing a stale address", error))?;
                    self.changed();
                }
            }
        }
        if there {
            return Ok(());
        }
        let message = AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(wanted.address, wanted.length)
            .build();
        let mut request =
            self.handle.address().add(index, wanted.address.into(), wanted.length).replace();
        *request.message_mut() = message;
        request.execute().await.map_err(|error| failed(name, "adding its address", error))?;
        self.changed();
        Ok(())
    }

    /// Makes or mends the tap: persistent, owned, a port of the bridge as [`port_is`] says, up.
    /// Returns its index.
    pub async fn ensure_tap(&self, wanted: &Tap<'_>, bridge: u32) -> Result<u32, Error> {
        let found = self.find(wanted.name).await?;
        self.ensure_tap_device(wanted, found).await?;
        self.ensure_port(wanted, bridge).await
    }

    /// The same where a guest may be attached: a tap that is there is not touched, since attaching to it is heard of
    /// as a change.
    /// Returns its index, and whether there was none.
    pub(crate) async fn mend_tap(
        &self,
        wanted: &Tap<'_>,
        bridge: u32,
    ) -> Result<(u32, bool), Error> {
        let missing = self.find(wanted.name).await?.is_none();
        if missing {
            self.ensure_tap_device(wanted, None).await?;
            self.changed();
        }
        Ok((self.ensure_port(wanted, bridge).await?, missing))
    }

    async fn ensure_tap_device(
        &self,
        wanted: &Tap<'_>,
        found: Option<LinkMessage>,
    ) -> Result<(), Error> {
        let name = wanted.name;
        if found.as_ref().is_some_and(|link| kind(link) != Some(&InfoKind::Tun)) {
            return Err(Error::NotATap { link: name.clone() });
        }
        match make_tap(wanted) {
            Err(Error::Tap { step: "attaching", source, .. }) => {
                match (source.raw_os_error(), found) {
                    // It has other flags: queues or header changed since the last start.
                    (Some(libc::EINVAL), Some(link)) => {
                        let step = self.handle.link().del(link.header.index).execute().await;
                        step.map_err(|error| {
                            failed(name, "removing a tap of another shape", error)
                        })?;
                        self.changed();
                        make_tap(wanted)?;
                    }
                    // A running guest holds its queues: it is as it should be.
                    (Some(libc::EBUSY), Some(_)) => {}
                    _ => return Err(Error::Tap { link: name.clone(), step: "attaching", source }),
                }
            }
            made => made?,
        }
        Ok(())
    }

    /// The tap is up, and a port of the bridge as [`port_is`] says.
    async fn ensure_port(&self, wanted: &Tap<'_>, bridge: u32) -> Result<u32, Error> {
        let name = wanted.name;
        let link = self.find(name).await?.ok_or_else(|| Error::Vanished(name.clone()))?;
        let index = link.header.index;
        if !tap_is(&link, wanted, bridge) {
            self.without_ipv6_address(index).await;
            let message =
                LinkUnspec::new_with_index(index).mtu(wanted.mtu).controller(bridge).up().build();
            let step = self.handle.link().set(message).execute().await;
            step.map_err(|error| failed(name, "putting the tap into the bridge", error))?;
            self.changed();
        }
        if !wanted.ipv6 {
            self.without_ipv6(name);
        }
        if tap_is(&link, wanted, bridge) && port_is(&link, wanted.port) {
            return Ok(index);
        }
        let all = wanted.port == Port::Guest;
        let port = LinkBridgePort::new(index).hairpin(all).learning(false).fdb_flush();
        let port = port.flood(all).bcast_flood(all).mcast_flood(true);
        let step = self.handle.link().set_port(port.build()).execute().await;
        step.map_err(|error| failed(name, "setting it up as a port of the bridge", error))?;
        self.changed();
        Ok(index)
    }

    /// Turns IPv4 forwarding on for one link.
    pub async fn ensure_forwarding(&self, name: &IfName) -> Result<(), Error> {
        let link = self.find(name).await?.ok_or_else(|| Error::Vanished(name.clone()))?;
        if forwards(&link) {
            return Ok(());
        }
        let mut on = InetDevConf::default();
        on.forwarding = 1;
        let conf = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![
            AfSpecInet::DevConfRequest(on),
        ])]);
        let message =
            LinkUnspec::new_with_index(link.header.index).append_extra_attribute(conf).build();
        let step = self.handle.link().set(message).execute().await;
        step.map_err(|error| failed(name, "turning forwarding on", error))?;
        self.changed();
        Ok(())
    }

    /// Neither bridge nor tap shall get a link-local IPv6 address of its own. A kernel without IPv6 says no,
    /// which is as good.
    async fn without_ipv6_address(&self, index: u32) {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
        let message = LinkUnspec::new_with_index(index).append_extra_attribute(spec).build();
        let _ = self.handle.link().set(message).execute().await;
    }

    /// Nor shall they hear of IPv6 at all, as far as that can be had here.
    fn without_ipv6(&self, name: &IfName) {
        if sysctl::without(name) {
            self.changed();
        }
    }

    /// The names of all links, by index.
    pub async fn names(&self) -> Result<BTreeMap<u32, String>, Error> {
        let every = "the links";
        let found: Vec<_> =
            self.handle.link().get().execute().try_collect().await.map_err(|error| {
                Error::Step { link: every.to_owned(), step: "listing them", source: errno(error) }
            })?;
        let named = |link: &LinkMessage| {
            link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some((link.header.index, name.clone())),
                _ => None,
            })
        };
        Ok(found.iter().filter_map(named).collect())
    }

    /// Removes a link; one that is not there is as wanted.
    ///
    /// # Errors
    ///
    /// What the kernel says to `RTM_DELLINK`.
    pub async fn remove(&self, name: &IfName) -> Result<(), Error> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        let step = self.handle.link().del(link.header.index).execute().await;
        step.map_err(|error| failed(name, "removing it", error))?;
        self.changed();
        Ok(())
    }

    /// Whether there is a link of this name.
    pub async fn exists(&self, name: &IfName) -> Result<bool, Error> {
        Ok(self.find(name).await?.is_some())
    }

    /// Its number; None when there is no such link.
    pub async fn index(&self, name: &IfName) -> Result<Option<u32>, Error> {
        Ok(self.find(name).await?.map(|link| link.header.index))
    }

    pub(super) async fn find(&self, name: &IfName) -> Result<Option<LinkMessage>, Error> {
        let mut found = Box::pin(self.handle.link().get().match_name(name.as_str()).execute());
        match found.try_next().await {
            Ok(link) => Ok(link),
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::ENODEV => {
                Ok(None)
            }
            Err(error) => Err(failed(name, "looking for it", error)),
        }
    }
}

fn failed(link: &IfName, step: &'static str, error: rtnetlink::Error) -> Error {
    Error::Step { link: link.to_string(), step, source: errno(error) }
}

/// What the kernel answered. rtnetlink's own error can print every message there is, which is half a megabyte of code
/// that no one would read.
pub(super) fn errno(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        rtnetlink::Error::UnexpectedMessage(message) => io::Error::other(format!(
            "the kernel answered by a message of type {}",
            message.header.message_type
        )),
        rtnetlink::Error::RequestFailed => io::Error::other("the rtnetlink socket is closed"),
        rtnetlink::Error::InvalidNla(why) | rtnetlink::Error::NamespaceError(why) => {
            io::Error::new(io::ErrorKind::InvalidInput, why)
        }
        rtnetlink::Error::InvalidHardwareAddress(_)
        | rtnetlink::Error::InvalidIp(_)
        | rtnetlink::Error::InvalidAddress(..) => {
            io::Error::new(io::ErrorKind::InvalidInput, "an address in it is invalid")
        }
    }
}

fn bridge_options(builder: LinkMessageBuilder<LinkBridge>) -> LinkMessageBuilder<LinkBridge> {
    builder
        .stp_state(BridgeStpState::Disabled)
        .forward_delay(0)
        .mcast_snooping(false)
        .nf_call_iptables(false)
        .nf_call_ip6tables(false)
        .nf_call_arptables(false)
}

fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    infos(link).find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

fn infos(link: &LinkMessage) -> impl Iterator<Item = &LinkInfo> {
    link.attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        })
        .flatten()
}

fn other_kind(link: &LinkMessage) -> Option<String> {
    match kind(link) {
        Some(InfoKind::Bridge) => None,
        Some(other) => Some(other.to_string()),
        None => Some("no virtual link".to_owned()),
    }
}

fn bridge_is(link: &LinkMessage, wanted: &Bridge<'_>) -> bool {
    let quiet = infos(link).any(|info| {
        matches!(info, LinkInfo::Data(InfoData::Bridge(options))
            if options.contains(&InfoBridge::NfCallIpTables(false))
                && options.contains(&InfoBridge::NfCallIp6Tables(false))
                && options.contains(&InfoBridge::NfCallArpTables(false))
                && options.contains(&InfoBridge::MulticastSnooping(false)))
    });
    quiet
        && link.header.flags.contains(LinkFlags::Up)
        && link.attributes.contains(&LinkAttribute::Mtu(wanted.mtu))
        && link.attributes.contains(&LinkAttribute::Address(wanted.mac.0.to_vec()))
}

fn tap_is(link: &LinkMessage, wanted: &Tap<'_>, bridge: u32) -> bool {
    link.header.flags.contains(LinkFlags::Up)
        && link.attributes.contains(&LinkAttribute::Mtu(wanted.mtu))
        && link.attributes.contains(&LinkAttribute::Controller(bridge))
}

fn forwards(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(specs) => specs.iter().any(|spec| match spec {
            AfSpecUnspec::Inet(confs) => confs
                .iter()
                .any(|conf| matches!(conf, AfSpecInet::DevConf(conf) if conf.forwarding == 1)),
            _ => false,
        }),
        _ => false,
    })
}

/// The message's IPv4 address (`IFA_LOCAL`) and prefix.
pub(crate) fn address_of(
    message: &netlink_packet_route::address::AddressMessage,
) -> Option<Ipv4Prefix> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(std::net::IpAddr::V4(address)) => {
            Ipv4Prefix::new(*address, message.header.prefix_len)
        }
        _ => None,
    })
}
