//! `berth leases`: what the lease file says, whether its server runs or not. The file is only read.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::proto::Now;
use crate::proto::leases::{Lease, Leases, State, is_ours};
use crate::sys::lease_file::{self, LeaseFile};

/// The leases by address, as a table or as JSON.
#[expect(clippy::disallowed_methods, reason = "a verb: the clock is read here")]
pub fn list(path: &Path, json: bool) -> Result<String, lease_file::Error> {
    let content = LeaseFile::peek(path, is_ours)?;
    let now = Now { monotonic: Instant::now(), wall: SystemTime::now() };
    let (leases, recovered) = Leases::<Ipv4Addr>::recover(now, &content, usize::MAX);
    let (leases6, _) = Leases::<Ipv6Addr>::recover(now, &content, usize::MAX);
    let all: Vec<Lease<IpAddr>> = leases.iter().map(any).chain(leases6.iter().map(any)).collect();
    if recovered.damaged > 0 {
        tracing::warn!(lines = recovered.damaged, "damaged lines passed over");
    }
    Ok(if json { as_json(&all, now) } else { as_table(&all, now) })
}

fn any<A: Into<IpAddr>>(lease: Lease<A>) -> Lease<IpAddr> {
    let Lease { address, client, hardware, name, state, until } = lease;
    Lease { address: address.into(), client, hardware, name, state, until }
}

/// None: a DHCPv6 client that does not say.
fn mac(lease: &Lease<IpAddr>) -> Option<String> {
    let is_said = lease.address.is_ipv4() || lease.hardware.kind != 0;
    is_said.then(|| lease.hardware.address.to_string())
}

fn as_table(leases: &[Lease<IpAddr>], now: Now) -> String {
    let widths = leases.iter().map(|lease| lease.address.to_string().len());
    let width = widths.max().unwrap_or_default().max(15);
    let mut text = format!(
        "{:<width$}  {:<8}  {:<12}  {:<17}  {:<20}  CLIENT\n",
        "ADDRESS", "STATE", "ENDS", "MAC", "NAME"
    );
    for lease in leases {
        let ends = match lease.until {
            None => "never".to_owned(),
            Some(until) if until > now.monotonic => {
                format!("in {}", roughly(until - now.monotonic))
            }
            Some(until) => format!("{} ago", roughly(now.monotonic.duration_since(until))),
        };
        let name = lease.name.as_deref().unwrap_or("-");
        let client = hex(&lease.client.0);
        let mac = mac(lease).unwrap_or_else(|| "-".to_owned());
        let address = lease.address.to_string();
        let _ = writeln!(
            text,
            "{address:<width$}  {:<8}  {ends:<12}  {mac:<17}  {name:<20}  {client}",
            state(lease, now)
        );
    }
    text
}

fn as_json(leases: &[Lease<IpAddr>], now: Now) -> String {
    let one = |lease: &Lease<IpAddr>| -> Value {
        let left = |until: Instant| until.saturating_duration_since(now.monotonic);
        let since = |until: Instant| now.monotonic.saturating_duration_since(until);
        let expires = lease.until.map(|until| now.wall + left(until) - since(until));
        let seconds = expires
            .and_then(|time| Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()));
        json!({
            "address": lease.address,
            "state": state(lease, now),
            "expires": seconds,
            "mac": mac(lease),
            "client_id": hex(&lease.client.0),
            "name": lease.name,
        })
    };
    let all: Vec<Value> = leases.iter().map(one).collect();
    format!("{:#}\n", Value::Array(all))
}

fn state(lease: &Lease<IpAddr>, now: Now) -> &'static str {
    let over = lease.until.is_some_and(|until| until <= now.monotonic);
    match lease.state {
        State::Released => "released",
        State::Bound | State::Declined if over => "ended",
        State::Declined => "declined",
        State::Bound | State::Offered => "bound",
    }
}

/// The two largest units.
fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if pairs.is_empty() { "-".to_owned() } else { pairs.join(":") }
}
