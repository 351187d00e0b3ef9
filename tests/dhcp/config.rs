//! The three servers that the cases talk to, as settings of the core and as words of `berth serve`.

use std::time::Duration;

use berth::net::MacAddr;
use berth::proto::dhcp4::{
    Addresses, Boot, BootClient, INFINITE, LeaseTime, Limits, Parameters, Reservation, ReservedFor, Settings,
    Subnet, encode,
};
use berth::proto::leases::Range;

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
    #[cfg_attr(not(feature = "e2e"), allow(dead_code, reason = "for a real link"))]
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
                "--least-lease-time=300",
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
                "--least-lease-time=300",
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
                "--least-lease-time=300",
                "--no-dns",
                "--probe",
                "--client-rate=2",
                "--rate=20",
            ],
        }
    }

    pub fn settings(self) -> Settings {
        match self {
            Self::Office => office(),
            Self::Small => small(),
            Self::Careful => careful(),
        }
    }
}

fn range(first: [u8; 4], last: [u8; 4]) -> Addresses {
    Addresses::Pool(vec![Range { first: first.into(), last: last.into() }])
}

fn subnet(addresses: Addresses, parameters: Parameters) -> Subnet {
    Subnet {
        network: "10.0.0.1/24".parse().unwrap(),
        server: [10, 0, 0, 1].into(),
        relayed: false,
        addresses,
        lease: LeaseTime::up_to(3600),
        parameters,
    }
}

fn relayed(parameters: Parameters, lease: LeaseTime) -> Subnet {
    Subnet {
        network: "10.1.0.0/24".parse().unwrap(),
        relayed: true,
        lease,
        ..subnet(
            range([10, 1, 0, 50], [10, 1, 0, 99]),
            Parameters { router: Some([10, 1, 0, 1].into()), ..parameters },
        )
    }
}

fn office() -> Settings {
    let boot = |client, file: &str| Boot { client, file: file.into() };
    let options = [
        (26, "1400"),
        (42, "10.0.0.123"),
        (100, "CET-1CEST,M3.5.0,M10.5.0/3"),
        (101, "Europe/Amsterdam"),
        (108, "60"),
        (114, "https://10.0.0.1/captive"),
        (120, "hex:010a000078"),
        (224, "hex:aabbcc"),
        (252, "http://wpad.example.org/wpad.dat"),
    ];
    let parameters = Parameters {
        router: Some([10, 0, 0, 254].into()),
        dns: vec![[10, 0, 0, 53].into()],
        domain: Some("example.org".into()),
        search: vec!["lab.example.org".into(), "example.org".into()],
        options: options.into_iter().map(|(code, words)| (code, encode(code, words).unwrap())).collect(),
        boot: vec![
            boot(BootClient::Any, "lpxelinux.0"),
            boot(BootClient::Architecture(7), "grubx64.efi"),
            boot(BootClient::Architecture(16), "http://10.0.0.69/grubx64.efi"),
            boot(BootClient::Ipxe, "http://10.0.0.69/script.ipxe"),
        ],
        next_server: Some([10, 0, 0, 69].into()),
        mtu: Some(1500),
        ..Parameters::default()
    };
    let reserve = |client, last, name: &str| Reservation {
        client,
        address: [10, 0, 0, last].into(),
        name: Some(name.into()),
    };
    let near = subnet(range([10, 0, 0, 100], [10, 0, 0, 199]), parameters.clone());
    Settings {
        reservations: vec![
            reserve(ReservedFor::Mac(MacAddr([0x52, 0x54, 0, 0, 0, 0x77])), 77, "printer"),
            reserve(ReservedFor::ClientId(vec![0xff, 0, 0, 0, 0x78]), 78, "laptop"),
        ],
        bootp: true,
        ..Settings::new(vec![near, relayed(parameters, LeaseTime::up_to(3600))])
    }
}

fn small() -> Settings {
    let parameters = Parameters {
        router: Some([169, 254, 1, 1].into()),
        options: [(116, vec![0])].into(),
        mtu: Some(1500),
        ..Parameters::default()
    };
    let lease = LeaseTime { usual: INFINITE, least: 300, most: INFINITE };
    let near = Subnet { lease, ..subnet(range([10, 0, 0, 10], [10, 0, 0, 11]), parameters.clone()) };
    Settings {
        authoritative: false,
        rapid_commit: true,
        subnet_selection: true,
        ..Settings::new(vec![near, relayed(parameters, lease)])
    }
}

fn careful() -> Settings {
    let parameters = Parameters { mtu: Some(1500), ..Parameters::default() };
    let near = subnet(range([10, 0, 0, 100], [10, 0, 0, 199]), parameters);
    Settings {
        reservations: vec![Reservation {
            client: ReservedFor::Mac(MacAddr([0x52, 0x54, 0, 0, 0, 0x77])),
            address: [10, 0, 0, 77].into(),
            name: None,
        }],
        probe: true,
        limits: Limits { per_client: Some(2), total: Some(20) },
        quarantine: Duration::from_secs(600),
        ..Settings::new(vec![near])
    }
}
