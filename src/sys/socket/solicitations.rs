//! Router solicitations of a link, as whole frames, and no other frames: a filter of the kernel's passes them over.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::{RETURN, ffi};
use crate::net::IfName;

/// linux/if_ether.h.
const ETH_P_IPV6: u32 = 0x86dd;
const ICMPV6: u32 = 58;
const SOLICITATION: u32 = 133;
/// Where a frame has its type, an IPv6 packet its next header, and ICMPv6 behind it its own.
const ETHER_TYPE: u32 = 12;
const NEXT_HEADER: u32 = 14 + 6;
const ICMPV6_TYPE: u32 = 14 + 40;
/// linux/bpf_common.h: BPF_LD with BPF_H or BPF_B and BPF_ABS; BPF_JMP | BPF_JEQ | BPF_K.
const HALF: u16 = 0x28;
const OCTET: u16 = 0x30;
const EQUAL: u16 = 0x15;
/// All routers of the link (RFC 4291 §2.7.1).
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// A packet socket for them, and one that has its link listen to the group as long as it is held. Needs CAP_NET_RAW.
///
/// # Errors
///
/// What the kernel says.
pub fn solicitations(interface: &IfName) -> io::Result<(OwnedFd, OwnedFd)> {
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    let index = name_to_index(&socket, interface.as_str())?;
    // Nothing comes in before the filter is there.
    socket.attach_filter(&[
        SockFilter::new(HALF, 0, 0, ETHER_TYPE),
        SockFilter::new(EQUAL, 0, 5, ETH_P_IPV6),
        SockFilter::new(OCTET, 0, 0, NEXT_HEADER),
        SockFilter::new(EQUAL, 0, 3, ICMPV6),
        SockFilter::new(OCTET, 0, 0, ICMPV6_TYPE),
        SockFilter::new(EQUAL, 0, 1, SOLICITATION),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ])?;
    ffi::bind_packet(&socket, index, 0x86dd)?;
    let member = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    member.join_multicast_v6(&ALL_ROUTERS, index)?;
    Ok((socket.into(), member.into()))
}
