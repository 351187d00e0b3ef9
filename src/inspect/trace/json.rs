//! A traced packet for programs: one JSON object a line.

use serde_json::{Map, Value, json};

use crate::nft::Policy;
use crate::nft::trace::{Event, Packet, Step, Traced, TracedStep, protocol_name};

/// One packet as one line of JSON; `seconds` since the beginning.
pub fn packet(
    traced: &Traced,
    number: u64,
    seconds: f64,
    named: &impl Fn(u32) -> String,
) -> String {
    let events: Vec<Value> = traced.steps.iter().map(|step| self::step(step, named)).collect();
    let seconds = (seconds * 1e6).round() / 1e6;
    let mut object = json!({
        "packet": number,
        "id": format!("{:08x}", traced.id),
        "seconds": seconds,
        "first": headers(&traced.first, named),
        "events": events,
        "verdict": if traced.dropped_by().is_some() { "drop" } else { "accept" },
    });
    if traced.more > 0
        && let Some(object) = object.as_object_mut()
    {
        object.insert("more_events".to_owned(), traced.more.into());
    }
    format!("{object}\n")
}

/// The last line: packets shown, messages lost, packets of other tables.
pub fn sums(packets: u64, lost: u64, foreign: u64) -> String {
    let sums =
        json!({ "packets": packets, "times_events_were_lost": lost, "events_of_others": foreign });
    format!("{sums}\n")
}

fn step(step: &TracedStep, named: &impl Fn(u32) -> String) -> Value {
    let event = &step.event;
    let mut object = Map::new();
    object.insert("family".to_owned(), event.family.to_string().into());
    object.insert("table".to_owned(), event.table.as_str().into());
    object.insert("chain".to_owned(), event.chain.as_str().into());
    let (kind, verdict) = match &event.step {
        Step::Rule { verdict, .. } => ("rule", verdict.to_string()),
        Step::Return { verdict, .. } => ("return", verdict.to_string()),
        Step::Policy(Policy::Accept) => ("policy", "accept".to_owned()),
        Step::Policy(Policy::Drop) => ("policy", "drop".to_owned()),
        Step::Unknown(_) => ("unknown", "continue".to_owned()),
    };
    object.insert("type".to_owned(), kind.into());
    if let Some(handle) = event.handle() {
        object.insert("handle".to_owned(), handle.into());
        object.insert("rule".to_owned(), step.rule.clone().into());
    }
    object.insert("verdict".to_owned(), verdict.into());
    if event.packet.is_some() {
        object.insert("headers".to_owned(), headers(event, named));
    }
    Value::Object(object)
}

/// What the headers say; absent what they do not.
fn headers(event: &Event, named: &impl Fn(u32) -> String) -> Value {
    let none = Packet::default();
    let packet = event.packet.as_ref().unwrap_or(&none);
    let (sport, dport) = packet.ports.unzip();
    let (ether_from, ether_to) = packet.ether.unzip();
    let fields = [
        ("iif", event.iif.map(|index| named(index).into())),
        ("oif", event.oif.map(|index| named(index).into())),
        ("protocol", packet.protocol.map(|number| protocol_name(number).into())),
        ("saddr", packet.from.map(|address| address.to_string().into())),
        ("daddr", packet.to.map(|address| address.to_string().into())),
        ("sport", sport.map(Value::from)),
        ("dport", dport.map(Value::from)),
        ("flags", packet.flag_names().map(Value::from)),
        ("icmp", packet.icmp_name().map(Value::from)),
        ("ttl", packet.ttl.map(Value::from)),
        ("length", packet.length.map(Value::from)),
        ("fragment", packet.fragment.then_some(Value::Bool(true))),
        ("mark", event.mark.map(Value::from)),
        ("ether_saddr", ether_from.map(|address| address.to_string().into())),
        ("ether_daddr", ether_to.map(|address| address.to_string().into())),
    ];
    let printed = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(printed.collect())
}
