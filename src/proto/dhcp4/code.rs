//! Option numbers (IANA's registry of BOOTP and DHCP parameters), by the names of RFC 2132 and its followers.

pub(super) const PAD: u8 = 0;
pub(super) const MASK: u8 = 1;
pub(super) const ROUTER: u8 = 3;
pub(super) const DNS: u8 = 6;
pub(super) const HOST_NAME: u8 = 12;
pub(super) const DOMAIN_NAME: u8 = 15;
pub(super) const MTU: u8 = 26;
pub(super) const BROADCAST: u8 = 28;
pub(super) const REQUESTED_ADDRESS: u8 = 50;
pub(super) const LEASE_TIME: u8 = 51;
pub(super) const OVERLOAD: u8 = 52;
pub(super) const MESSAGE_TYPE: u8 = 53;
pub(super) const SERVER: u8 = 54;
pub(super) const REQUEST_LIST: u8 = 55;
pub(super) const MESSAGE: u8 = 56;
pub(super) const MAX_SIZE: u8 = 57;
pub(super) const T1: u8 = 58;
pub(super) const T2: u8 = 59;
pub(super) const VENDOR_CLASS: u8 = 60;
pub(super) const CLIENT_ID: u8 = 61;
pub(super) const BOOT_SERVER: u8 = 66;
pub(super) const BOOT_FILE: u8 = 67;
pub(super) const USER_CLASS: u8 = 77;
pub(super) const RAPID_COMMIT: u8 = 80;
pub(super) const FQDN: u8 = 81;
pub(super) const RELAY_INFORMATION: u8 = 82;
pub(super) const AUTHENTICATION: u8 = 90;
pub(super) const ARCHITECTURE: u8 = 93;
pub(super) const V6_ONLY: u8 = 108;
pub(super) const AUTO_CONFIGURE: u8 = 116;
pub(super) const SUBNET_SELECTION: u8 = 118;
pub(super) const SEARCH: u8 = 119;
pub(super) const ROUTES: u8 = 121;
pub(super) const IPXE: u8 = 175;
/// Microsoft's number for the same as 121.
pub(super) const ROUTES_MICROSOFT: u8 = 249;
pub(super) const END: u8 = 255;

/// Suboptions of 82: RFC 3527, RFC 5107, RFC 8357.
pub(super) const LINK_SELECTION: u8 = 5;
pub(super) const SERVER_OVERRIDE: u8 = 11;
pub(super) const SOURCE_PORT: u8 = 19;

/// Written by the server itself, whatever is configured.
pub(super) fn is_ours(code: u8) -> bool {
    matches!(
        code,
        PAD | REQUESTED_ADDRESS..=T2 | CLIENT_ID | RAPID_COMMIT..=RELAY_INFORMATION | AUTHENTICATION | END
    )
}
