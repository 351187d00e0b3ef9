//! Options that are the same for every client, laid out once.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use dhcproto::v6::OptionCode;

use super::Parameters;
use super::wire::write;
use crate::net::DomainName;

/// Suboption of 56: an address of a server (RFC 5908 §4.1).
const NTP_ADDRESS: u16 = 1;

/// Whole options by code, as they go out.
pub(super) type Values = BTreeMap<u16, Vec<u8>>;

/// Empty ones are left out.
pub(super) fn encode(is: &Parameters) -> Values {
    let addresses = |list: &[Ipv6Addr]| list.iter().flat_map(Ipv6Addr::octets).collect::<Vec<_>>();
    let secs = |secs: Option<u32>| secs.map(u32::to_be_bytes).map(Vec::from).unwrap_or_default();
    let boot = is.boot.as_ref();
    let single = [
        (OptionCode::DomainNameServers, addresses(&is.dns)),
        (OptionCode::DomainSearchList, is.search.iter().flat_map(DomainName::labels).collect()),
        (OptionCode::SntpServers, addresses(&is.ntp)),
        (OptionCode::InformationRefreshTime, secs(is.refresh)),
        (OptionCode::OptBootfileUrl, boot.map(|it| it.url.clone().into()).unwrap_or_default()),
        (
            OptionCode::OptBootfileParam,
            boot.map(|boot| boot_parameters(&boot.parameters)).unwrap_or_default(),
        ),
        (OptionCode::SolMaxRt, secs(is.sol_max_rt)),
        (OptionCode::InfMaxRt, secs(is.inf_max_rt)),
    ];
    let mut values = Values::new();
    for (code, value) in single.into_iter().filter(|(_, value)| !value.is_empty()) {
        write(values.entry(code.into()).or_default(), code, &value);
    }
    for server in &is.ntp {
        // One option for each server (RFC 5908 §4).
        let mut value = [NTP_ADDRESS.to_be_bytes(), 16_u16.to_be_bytes()].concat();
        value.extend(server.octets());
        let code = OptionCode::NtpServer;
        write(values.entry(code.into()).or_default(), code, &value);
    }
    values
}

/// Each with its length (RFC 5970 §3.2).
fn boot_parameters(parameters: &[String]) -> Vec<u8> {
    let mut octets = Vec::new();
    for parameter in parameters {
        octets.extend(u16::try_from(parameter.len()).unwrap_or(u16::MAX).to_be_bytes());
        octets.extend(parameter.bytes());
    }
    octets
}
