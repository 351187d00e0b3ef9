//! Every row of the DHCPv4 table (docs/dhcp-dns.md), black box: packets as bytes in, packets or silence out. A case
//! speaks to a `Wire`: here to the core under a virtual clock, in tests/netns/dhcp to a server behind a real link.

/// Runs the cases on the core.
macro_rules! cases {
    ($($config:ident: $($name:ident),+;)+) => {
        mod core {
            $($(#[test]
            fn $name() {
                super::$name(&mut crate::dhcp::wire::Core::new(crate::dhcp::config::Config::$config));
            })+)+
        }
    };
}

mod abuse;
mod beside;
mod binding;
mod boot;
mod config;
mod core_only;
mod malformed;
mod model;
mod networks;
mod options;
mod oracle;
mod packet;
mod pairs;
mod policy;
mod relay;
mod request;
mod wire;
