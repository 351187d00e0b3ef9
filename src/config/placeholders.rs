//! `$NAME` and `${NAME}` in QEMU's options: which there are, and which a text has.

/// What `KVM_*_OPTS` may name.
pub(crate) const PLACEHOLDERS: [&str; 10] = [
    "KVM_IMAGE",
    "BRIDGE_IFACE",
    "NEWMAC",
    "VM_IP",
    "VM_GW",
    "HOSTNAME",
    "IMG_SOURCE",
    "IMG_TARGET",
    "IMG_VCPU",
    "IMG_RAM_MB",
];

/// Names after `$` or in `${…}`.
pub(super) fn named(text: &str) -> Vec<String> {
    text.split('$')
        .skip(1)
        .map(|rest| rest.strip_prefix('{').unwrap_or(rest))
        .map(|rest| rest.chars().take_while(|&c| c.is_ascii_alphanumeric() || c == '_').collect())
        .collect()
}

/// Whether each `${` has a name of its own and its `}`. The rest may have been put together of what it was filled with.
pub(super) fn braces_are_closed(text: &str) -> bool {
    text.split("${").skip(1).all(|rest| {
        let name = rest.split_once('}').map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}
