//! What a client of a subnet is told besides its lease: what it asked for, in its order, of what is configured.

use std::collections::BTreeMap;

use super::reply::{Options, Value};
use super::request::{MAX_MESSAGE, MIN_MESSAGE, Request};
use super::value::{domain, prepared};
use super::{Reservation, Subnet, boot, code, fqdn};

/// For a client that asks for nothing in particular; then what is configured by number.
const DEFAULT_LIST: [u8; 8] = [
    code::MASK,
    code::ROUTER,
    code::DNS,
    code::HOST_NAME,
    code::DOMAIN_NAME,
    code::BROADCAST,
    code::MTU,
    code::SEARCH,
];
/// Longest name in `file` (RFC 2131 §2: ends with a NUL).
const LONGEST_FILE: usize = 127;

const ETHERNET_MTU: u16 = 1500;

/// Of one subnet, laid out.
#[derive(Debug)]
pub(super) struct Values {
    constant: BTreeMap<u8, Vec<u8>>,
    default: Vec<u8>,
    boot_server: String,
    /// Of the clients' link.
    mtu: u16,
    /// RFC 2563: a client that gets no address is to stay without one.
    pub no_auto_configure: bool,
}

impl Values {
    /// The options in the order in which they are laid out.
    pub fn new(subnet: &Subnet) -> Self {
        let mut constant = prepared(subnet);
        let auto_configure = constant.remove(&code::AUTO_CONFIGURE);
        let mtu = constant.get(&code::MTU).and_then(|mtu| mtu.as_slice().try_into().ok());
        let configured =
            subnet.parameters.options.keys().copied().filter(|code| *code != code::V6_ONLY);
        Self {
            default: DEFAULT_LIST.into_iter().chain(configured).collect(),
            boot_server: subnet.parameters.next_server.unwrap_or(subnet.server).to_string(),
            no_auto_configure: auto_configure.is_some_and(|value| value == [0]),
            mtu: mtu.map_or(ETHERNET_MTU, u16::from_be_bytes),
            constant,
        }
    }

    /// Adds the options; the boot file's name for the field `file`.
    pub fn fill<'a>(
        &'a self,
        options: &mut Options<'a>,
        subnet: &'a Subnet,
        request: &'a Request,
        reservation: Option<&'a Reservation>,
    ) -> &'a [u8] {
        let name = reservation.and_then(|reservation| reservation.name.as_deref());
        let host_name = name.or(subnet.parameters.host_name.as_deref());
        let boot = boot::select(&subnet.parameters, request);
        let is_told = |code| self.constant.contains_key(&code);
        if let Some(class) = boot.and_then(|boot| boot.class) {
            options.must(code::VENDOR_CLASS, class);
        }
        let wanted = request.option(code::REQUEST_LIST).unwrap_or(&self.default);
        if !wanted.contains(&code::MASK) {
            // Some clients read the mask before the router (quirk of BSDs), all need it.
            self.constant(options, code::MASK);
        }
        for &code in wanted {
            match (code, host_name, boot) {
                (code::HOST_NAME, Some(name), _) => options.may(code, name.as_bytes()),
                (code::BOOT_FILE, _, Some(boot)) => options.may(code, boot.file.as_bytes()),
                // By number it is a name, or what telephones take for one.
                (code::BOOT_SERVER, _, Some(_)) if !is_told(code) => {
                    options.may(code, self.boot_server.as_bytes());
                }
                _ => self.constant(options, code),
            }
        }
        if self.mtu < ETHERNET_MTU {
            // Told unasked: a guest with too large an MTU loses its large packets and nothing says why.
            self.constant(options, code::MTU);
        }
        let asked = request.option(code::FQDN);
        if let Some(answer) = asked.and_then(|asked| fqdn::reply(asked, host_name, domain(subnet)))
        {
            options.may(code::FQDN, Value::Owned(answer));
        }
        match boot.map(|boot| boot.file.as_bytes()) {
            Some(file) if file.len() <= LONGEST_FILE => file,
            Some(file) => {
                options.may(code::BOOT_FILE, file);
                &[]
            }
            None => &[],
        }
    }

    /// Octets of UDP payload that reach a client in one piece.
    pub fn max(&self) -> usize {
        usize::from(self.mtu).saturating_sub(28).clamp(MIN_MESSAGE, MAX_MESSAGE)
    }

    fn constant<'a>(&'a self, options: &mut Options<'a>, code: u8) {
        if let Some(value) = self.constant.get(&code) {
            let value = value.as_slice();
            if code == code::MASK { options.must(code, value) } else { options.may(code, value) }
        }
    }
}
