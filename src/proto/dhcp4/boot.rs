//! Which boot file a client gets (RFC 4578, the UEFI specification's HTTP boot, iPXE's options).

use super::request::Request;
use super::{BootClient, Parameters, code};

/// UEFI drops an offer that does not say this (UEFI 2.10 §24.7.2).
const HTTP_CLIENT: &[u8] = b"HTTPClient";
const PXE_CLIENT: &[u8] = b"PXEClient";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BootFile<'a> {
    pub file: &'a str,
    /// Vendor class to echo.
    pub class: Option<&'static [u8]>,
}

/// None for a client that does not boot from the network.
pub(super) fn select<'a>(parameters: &'a Parameters, request: &Request) -> Option<BootFile<'a>> {
    let class = request.option(code::VENDOR_CLASS).unwrap_or_default();
    let http = class.starts_with(HTTP_CLIENT);
    let ipxe = request.has(code::IPXE)
        || request
            .option(code::USER_CLASS)
            .is_some_and(|class| class == b"iPXE" || class == b"\x04iPXE");
    let architectures = || {
        let list = request.option(code::ARCHITECTURE).unwrap_or_default();
        list.as_chunks().0.iter().map(|&number| u16::from_be_bytes(number))
    };
    let asks = || {
        let wanted = request.option(code::REQUEST_LIST).unwrap_or_default();
        wanted.contains(&code::BOOT_FILE) || wanted.contains(&code::BOOT_SERVER)
    };
    let boots = ipxe
        || http
        || class.starts_with(PXE_CLIENT)
        || request.has(code::ARCHITECTURE)
        || request.kind.is_none()
        || asks();
    let of = |client| parameters.boot.iter().find(|boot| boot.client == client);
    let boot = of(BootClient::Ipxe)
        .filter(|_| ipxe)
        .or_else(|| architectures().find_map(|number| of(BootClient::Architecture(number))))
        .or_else(|| of(BootClient::Any))
        .filter(|_| boots)?;
    Some(BootFile { file: &boot.file, class: http.then_some(HTTP_CLIENT) })
}
