//! The cases of tests/pure/dhcp against `berth serve` behind a real link; and dnsmasq beside it.

/// Lists the cases of a file.
macro_rules! cases {
    ($($config:ident: $($name:ident),+;)+) => {
        pub const CASES: &[crate::dhcp::Case] = &[$($(crate::dhcp::Case {
            name: stringify!($name),
            config: crate::dhcp::config::Config::$config,
            run: $name,
        }),+),+];
    };
}

#[path = "../../pure/dhcp/binding.rs"]
mod binding;
#[path = "../../pure/dhcp/boot.rs"]
mod boot;
#[path = "../../pure/dhcp/config.rs"]
#[allow(dead_code, reason = "the core's part")]
mod config;
mod dnsmasq;
mod link;
#[path = "../../pure/dhcp/malformed.rs"]
mod malformed;
#[path = "../../pure/dhcp/options.rs"]
mod options;
#[path = "../../pure/dhcp/packet.rs"]
mod packet;
#[path = "../../pure/dhcp/policy.rs"]
mod policy;
#[path = "../../pure/dhcp/relay.rs"]
mod relay;
#[path = "../../pure/dhcp/request.rs"]
#[allow(dead_code, reason = "the core's part")]
mod request;
#[path = "../../pure/dhcp/wire.rs"]
#[allow(dead_code, reason = "the core's part")]
mod wire;

pub struct Case {
    pub name: &'static str,
    pub config: config::Config,
    pub run: fn(&mut dyn wire::Wire),
}

fn all_cases() -> impl Iterator<Item = &'static Case> {
    [binding::CASES, boot::CASES, malformed::CASES, options::CASES, policy::CASES, relay::CASES]
        .into_iter()
        .flatten()
}
