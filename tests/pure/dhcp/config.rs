//! The three servers that the cases talk to, in the words of `berth serve`.

use std::sync::OnceLock;

use berth::config::serve::ServeOptions;
use berth::facts::{Interface, Resolver};
use berth::net::MacAddr;
use berth::plan::serve::{DhcpPlan, Error, ServePlan, plan};
use berth::proto::dhcp4::Settings;
use clap::Parser;

#[derive(Parser)]
struct Words {
    #[command(flatten)]
    options: ServeOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Config {
    /// A hundred addresses, a relayed subnet, two reservations, every option.
    Office,
    /// Two addresses for ever, a router outside of the network; not the only server; rapid commit.
    Small,
    /// Probes, and limits.
    Careful,
}

impl Config {
    /// After `berth serve --interface IF`.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::Office => &[
                "--address=10.0.0.1/24",
                "--range=10.0.0.100,10.0.0.199",
                "--router=10.0.0.254",
                "--relayed=10.1.0.0/24,10.1.0.50,10.1.0.99,10.1.0.1",
                "--reserve=52:54:00:00:00:77,10.0.0.77,printer",
                "--reserve=id:ff00000078,10.0.0.78,laptop",
                "--lease-time=3600",
                "--min-lease-time=300",
                "--no-dns",
                "--dns=10.0.0.53",
                "--domain=example.org",
                "--search=lab.example.org",
                "--search=example.org",
                "--option=26=1400",
                "--option=42=10.0.0.123",
                "--option=100=CET-1CEST,M3.5.0,M10.5.0/3",
                "--option=101=Europe/Amsterdam",
                "--option=108=60",
                "--option=114=https://10.0.0.1/captive",
                "--option=120=hex:010a000078",
                "--option=224=hex:aabbcc",
                "--option=252=http://wpad.example.org/wpad.dat",
                "--boot-file=lpxelinux.0",
                "--boot-file=7=grubx64.efi",
                "--boot-file=16=http://10.0.0.69/grubx64.efi",
                "--boot-file=ipxe=http://10.0.0.69/script.ipxe",
                "--next-server=10.0.0.69",
                "--bootp",
            ],
            Self::Small => &[
                "--address=10.0.0.1/24",
                "--range=10.0.0.10,10.0.0.11",
                "--router=169.254.1.1",
                "--relayed=10.1.0.0/24,10.1.0.50,10.1.0.99,10.1.0.1",
                "--lease-time=infinite",
                "--min-lease-time=300",
                "--no-dns",
                "--not-authoritative",
                "--option=116=0",
                "--rapid-commit",
                "--subnet-selection",
            ],
            Self::Careful => &[
                "--address=10.0.0.1/24",
                "--range=10.0.0.100,10.0.0.199",
                "--router=none",
                "--reserve=52:54:00:00:00:77,10.0.0.77",
                "--lease-time=3600",
                "--min-lease-time=300",
                "--no-dns",
                "--probe",
                "--client-rate=2",
                "--rate=20",
            ],
        }
    }

    pub fn settings(self) -> Settings {
        static READ: [OnceLock<Settings>; 3] = [const { OnceLock::new() }; 3];
        READ[self as usize].get_or_init(|| self.read()).clone()
    }

    fn read(self) -> Settings {
        planned(self.words()).unwrap().settings
    }
}

/// What the words mean of DHCP, or why they are refused.
pub fn planned(words: &[&str]) -> Result<DhcpPlan, Error> {
    planned_whole(words).map(|plan| plan.dhcp.unwrap())
}

pub fn planned_whole(words: &[&str]) -> Result<ServePlan, Error> {
    let words = ["berth", "--interface=br0"].iter().chain(words);
    let interface = Interface {
        name: "br0".parse().unwrap(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addresses: Vec::new(),
        addresses6: Vec::new(),
        link_local: None,
    };
    let options = Words::parse_from(words).options;
    plan(&options, &interface, &Resolver::parse(b""))
}
