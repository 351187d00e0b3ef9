//! What the agent answers, bounded: the guest chooses every name, every number and how many there are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;

use super::wire::{self, List, Text};
use crate::net::MacAddr;

/// What a request was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There is nothing to say but that it is so.
    Done,
    Info(Info),
    Os(OsInfo),
    HostName(String),
    Interfaces(Vec<Interface>),
    FileSystems(Vec<FileSystem>),
    /// How many file systems.
    Frozen(u64),
    Thawed(u64),
    /// Whether they are.
    FreezeStatus(bool),
}

/// The agent itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    pub version: Option<String>,
    /// Those that may be used.
    pub commands: BTreeSet<String>,
}

/// Its operating system, in the words of os-release(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OsInfo {
    pub id: Option<String>,
    pub pretty_name: Option<String>,
    pub version_id: Option<String>,
    pub kernel_release: Option<String>,
    pub machine: Option<String>,
}

/// A network interface as the guest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    pub name: String,
    #[serde(serialize_with = "as_text")]
    pub mac: Option<MacAddr>,
    pub addresses: Vec<Address>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Address {
    pub address: IpAddr,
    pub prefix: Option<u8>,
}

/// A file system that is mounted from a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSystem {
    pub mountpoint: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub used_bytes: Option<u64>,
    pub total_bytes: Option<u64>,
}

fn as_text<S: serde::Serializer>(mac: &Option<MacAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    match mac {
        Some(mac) => serializer.collect_str(mac),
        None => serializer.serialize_none(),
    }
}

fn text<const N: usize>(text: Option<Text<N>>) -> Option<String> {
    text.map(|Text(text)| text)
}

impl From<wire::Nothing> for Answer {
    fn from(_: wire::Nothing) -> Self {
        Self::Done
    }
}

impl From<wire::FreezeStatus> for Answer {
    fn from(status: wire::FreezeStatus) -> Self {
        Self::FreezeStatus(matches!(status, wire::FreezeStatus::Frozen))
    }
}

impl From<wire::Info> for Answer {
    fn from(info: wire::Info) -> Self {
        let commands = info.supported_commands.0.into_iter().filter(|command| command.enabled);
        let commands = commands.map(|command| command.name.0).collect();
        Self::Info(Info { version: text(info.version), commands })
    }
}

impl From<wire::OsInfo> for Answer {
    fn from(os: wire::OsInfo) -> Self {
        Self::Os(OsInfo {
            id: text(os.id),
            pretty_name: text(os.pretty_name),
            version_id: text(os.version_id),
            kernel_release: text(os.kernel_release),
            machine: text(os.machine),
        })
    }
}

impl From<wire::HostName> for Answer {
    fn from(wire::HostName { host_name: Text(name) }: wire::HostName) -> Self {
        Self::HostName(name)
    }
}

/// What is no address is left out: it is the guest's to say what it likes.
impl From<wire::Interfaces> for Answer {
    fn from(List(interfaces): wire::Interfaces) -> Self {
        let address = |wire::Address { ip_address: Text(address), prefix }| {
            let address: IpAddr = address.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            Some(Address { address, prefix: prefix.0.filter(|prefix| *prefix <= longest) })
        };
        let interface = |wire::Interface { name: Text(name), hardware_address, ip_addresses }| {
            let mac = text(hardware_address).and_then(|mac| mac.parse().ok());
            let addresses = ip_addresses.0.into_iter().filter_map(address).collect();
            Interface { name, mac, addresses }
        };
        Self::Interfaces(interfaces.into_iter().map(interface).collect())
    }
}

impl From<wire::FileSystems> for Answer {
    fn from(List(systems): wire::FileSystems) -> Self {
        let system = |wire::FileSystem {
                          mountpoint: Text(mountpoint),
                          kind: Text(kind),
                          used_bytes,
                          total_bytes,
                      }| {
            let (used_bytes, total_bytes) = (used_bytes.0, total_bytes.0);
            FileSystem { mountpoint, kind, used_bytes, total_bytes }
        };
        Self::FileSystems(systems.into_iter().map(system).collect())
    }
}
