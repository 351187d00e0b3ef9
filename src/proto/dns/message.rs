//! Messages: what is read of a question and of an answer, and the few that are made here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::{self, Found, Names, reversed, whole};
use super::wire::{self, HEADER, Plain};
use super::{Reason, Settings};

/// How long our own names may be remembered. Seconds.
const LOCAL_TTL: u32 = 30;

/// Octets of an answer that says no, of each question under way.
pub(super) const LARGEST_DENIAL: usize = 4096;

/// A question that makes sense.
#[derive(Debug)]
pub(super) struct Query {
    bytes: Vec<u8>,
    /// Nothing else in it than what everybody asks.
    plain: Option<Plain>,
    message: Message,
    question: Question,
}

impl Query {
    /// Err: dropped. Ok(Err): the answer that says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Result<Self, Vec<u8>>, Reason> {
        let Some(&[id1, id2, flags, _, count1, count2, ..]) = bytes.first_chunk::<HEADER>() else {
            return Err(Reason::Truncated);
        };
        if flags & 0x80 != 0 {
            return Err(Reason::NotAQuery);
        }
        let refuse = |code| Ok(Err(bare_refusal([id1, id2], flags, code)));
        if flags >> 3 & 0xf != 0 {
            return refuse(ResponseCode::NotImp);
        }
        if [count1, count2] != [0, 1] {
            return refuse(ResponseCode::FormErr);
        }
        let Ok(message) = Message::from_vec(bytes) else { return refuse(ResponseCode::FormErr) };
        let Some(question) = message.queries.first().cloned() else {
            return refuse(ResponseCode::FormErr);
        };
        // A name that is a pointer leads into the header; options that are none, octets behind the end.
        if !wire::is_sound(bytes) {
            return refuse(ResponseCode::FormErr);
        }
        let query = Self { bytes: bytes.to_vec(), plain: wire::plain(bytes), message, question };
        let refusal = match query.question.query_type() {
            _ if query.message.edns.as_ref().is_some_and(|edns| edns.version() > 0) => {
                Some(ResponseCode::BADVERS)
            }
            _ if query.question.query_class() != DNSClass::IN => Some(ResponseCode::Refused),
            RecordType::AXFR | RecordType::IXFR => Some(ResponseCode::Refused),
            _ => None,
        };
        Ok(match refusal {
            Some(code) => Err(query.refusal(code)),
            None => Ok(query),
        })
    }

    /// The name asked for.
    pub fn name(&self) -> &Name {
        self.question.name()
    }

    /// The type that servers are asked for in place of the question's: whether there is such a name is asked by its IPv4
    /// addresses, where those of IPv6 are not to be passed on.
    pub(crate) fn asked_as(&self, settings: &Settings) -> Option<RecordType> {
        let hidden = !settings.aaaa && self.question.query_type() == RecordType::AAAA;
        hidden.then_some(RecordType::A)
    }

    pub(crate) fn is_for_an_address(&self) -> bool {
        matches!(self.question.query_type(), RecordType::A | RecordType::AAAA)
    }

    /// An answer that has only a code, with the question kept.
    pub fn refusal(&self, code: ResponseCode) -> Vec<u8> {
        let mut message = self.answer();
        message.metadata.response_code = code;
        self.encode(&message)
    }

    fn answer(&self) -> Message {
        let mut message = Message::response(self.message.metadata.id, OpCode::Query);
        message.metadata.recursion_desired = self.message.metadata.recursion_desired;
        message.metadata.checking_disabled = self.message.metadata.checking_disabled;
        message.metadata.recursion_available = true;
        message.add_query(self.question.clone());
        if let Some(asked) = &self.message.edns {
            let mut edns = Edns::new();
            // RFC 3225 §3: copied, whether or not there is anything signed.
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            edns.set_max_payload(1232);
            message.set_edns(edns);
        }
        message
    }

    fn encode(&self, message: &Message) -> Vec<u8> {
        message.to_vec().unwrap_or_else(|_| bare_refusal(self.id(), 0, ResponseCode::ServFail))
    }

    fn id(&self) -> [u8; 2] {
        self.message.metadata.id.to_be_bytes()
    }

    /// The question for a server: the guest's own words under another id, or under another name, or for another type.
    pub fn upstream(
        &self,
        id: u16,
        name: Option<&Name>,
        kind: Option<RecordType>,
    ) -> Option<Vec<u8>> {
        let mut bytes = match (&self.plain, name) {
            (Some(plain), _) => plain.upstream(&self.bytes, id, name)?,
            (None, None) => {
                let mut bytes = self.bytes.clone();
                bytes.get_mut(..2)?.copy_from_slice(&id.to_be_bytes());
                bytes
            }
            (None, Some(name)) => {
                let mut message = self.message.clone();
                message.metadata.id = id;
                message.queries.first_mut()?.set_name(name.clone());
                message.to_vec().ok()?
            }
        };
        if let Some(kind) = kind {
            wire::set_type(&mut bytes, kind.into())?;
        }
        Some(bytes)
    }

    /// The answer to the question for another type as one to ours: a name that is there has nothing of it, one that is not
    /// has nothing at all.
    pub(crate) fn without_data(&self, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        if Answer::read(&bytes).code == ResponseCode::NoError {
            return Some(self.own(&[]));
        }
        wire::set_type(&mut bytes, self.question.query_type().into())?;
        Some(bytes)
    }

    /// The server's answer as the guest must see it: its own id, and the name it asked for, which leads to the
    /// one that was found by a CNAME.
    pub(crate) fn under_its_own_name(&self, bytes: &[u8], name: Option<&Name>) -> Option<Vec<u8>> {
        let Some(found) = name else {
            let mut bytes = bytes.to_vec();
            bytes.get_mut(..2)?.copy_from_slice(&self.id());
            return Some(bytes);
        };
        let answer = Message::from_vec(bytes).ok()?;
        let mut message = self.answer();
        message.metadata.response_code = answer.metadata.response_code;
        let ttl = answer.answers.iter().map(|record| record.ttl).min().unwrap_or(LOCAL_TTL);
        message.add_answer(Record::from_rdata(
            self.name().clone(),
            ttl,
            RData::CNAME(CNAME(found.clone())),
        ));
        message.add_answers(answer.answers);
        // The SOA of a name without an answer says how long that holds.
        message.add_authorities(answer.authorities);
        message.to_vec().ok()
    }

    /// Octets of an answer by UDP.
    pub fn max(&self) -> usize {
        let edns = self.message.edns.as_ref();
        edns.map_or(wire::MIN_UDP, |edns| wire::within_udp(edns.max_payload().into()))
    }
}

/// The answer to what is longer than any question. Err: dropped.
pub(super) fn too_long(bytes: &[u8]) -> Result<Vec<u8>, Reason> {
    let Some(&[id1, id2, flags, ..]) = bytes.first_chunk::<HEADER>() else {
        return Err(Reason::Truncated);
    };
    if flags & 0x80 != 0 {
        return Err(Reason::NotAQuery);
    }
    Ok(bare_refusal([id1, id2], flags, ResponseCode::FormErr))
}

/// Header alone, for what could not be read.
fn bare_refusal([id1, id2]: [u8; 2], flags: u8, code: ResponseCode) -> Vec<u8> {
    let [_, code] = u16::from(code).to_be_bytes();
    // QR, the opcode and RD as they came, RA.
    vec![id1, id2, 0x80 | (flags & 0x79), 0x80 | (code & 0xf), 0, 0, 0, 0, 0, 0, 0, 0]
}

/// What decides about a server's answer.
pub(super) struct Answer {
    pub code: ResponseCode,
    pub cut: bool,
    pub empty: bool,
    /// It does not repeat the question.
    pub is_bare: bool,
}

impl Answer {
    /// Reads a query; what is wrong with it is in the value.
    pub fn read(bytes: &[u8]) -> Self {
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        Self {
            code: ResponseCode::from_low(at(3) & 0xf),
            cut: at(2) & 2 != 0,
            empty: (at(6), at(7)) == (0, 0),
            is_bare: (at(4), at(5)) == (0, 0),
        }
    }
}

/// What is kept of an answer that says no while other names are tried, and told when none has more: all of it, if it is
/// not long, as denials with their proofs are (RFC 5155); else its code, what leads to the name, and the SOA that says
/// how long it holds. None: even that is long, as no real one's is.
pub(super) fn denial(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() <= LARGEST_DENIAL {
        return Some(bytes.to_vec());
    }
    let mut message = Message::from_vec(bytes).ok()?;
    message.authorities.retain(|record| record.record_type() == RecordType::SOA);
    message.authorities.truncate(1);
    message.additionals.clear();
    let mut short = message.to_vec().ok().filter(|short| short.len() <= LARGEST_DENIAL)?;
    short.shrink_to_fit();
    Some(short)
}

/// Answers that need no server: our own names, those of DHCP clients, and names that must not be asked for.
pub(super) fn local(
    now: Instant,
    query: &Query,
    settings: &Settings,
    names: &Names,
) -> Option<Vec<u8>> {
    let kind = query.question.query_type();
    if kind == RecordType::ANY {
        // RFC 8482 §4.2
        return Some(query.own(&[RData::HINFO(HINFO::new("RFC8482".into(), String::new()))]));
    }
    let text = query.name().to_ascii().to_ascii_lowercase();
    let text = text.trim_end_matches('.');
    if let Some(address) = own_address(text, settings) {
        return Some(match kind {
            RecordType::A => query.own(&[RData::A(A(address))]),
            RecordType::AAAA if address.is_loopback() => {
                query.own(&[RData::AAAA(AAAA(Ipv6Addr::LOCALHOST))])
            }
            _ => query.own(&[]),
        });
    }
    if text == "gateway" && names::configured(text, settings).is_none() {
        let ours = [settings.gateway.map(IpAddr::V4), settings.gateway6.map(IpAddr::V6)];
        return Some(query.addresses(&ours.into_iter().flatten().collect::<Vec<_>>()));
    }
    if let Some(answer) =
        host(text, query, settings).or_else(|| leased(now, text, query, settings, names))
    {
        return Some(answer);
    }
    if let Some(addresses) = names::below(text, settings) {
        return Some(query.addresses(&addresses));
    }
    if let Some(name) = own_pointer(text, settings) {
        return Some(match (kind, Name::from_ascii(name)) {
            (RecordType::PTR, Ok(name)) => query.own(&[RData::PTR(PTR(name))]),
            _ => query.own(&[]),
        });
    }
    // RFC 6761 §6.4, RFC 6762 §3 and RFC 7686 §2: not for a server.
    let never =
        ["local", "invalid", "onion"].iter().any(|top| text == *top || names::is_below(text, top));
    if let Some(domain) = &settings.domain
        && (text == domain || names::is_below(text, domain))
    {
        let exists = names::has_names_below(text, settings);
        return Some(if exists { query.own(&[]) } else { query.no_such_name() });
    }
    if settings.domain.is_some() && reversed(text).is_some_and(|address| is_ours(address, settings))
    {
        return Some(query.no_such_name());
    }
    let cluster = settings
        .search
        .iter()
        .any(|domain| text == domain || text.ends_with(&format!(".{domain}")));
    (never && !cluster).then(|| query.refusal(ResponseCode::NXDomain))
}

/// Private, or unique-local (RFC 6303 §4.4), and in a network of ours.
fn is_ours(address: IpAddr, settings: &Settings) -> bool {
    match address {
        IpAddr::V4(it) => it.is_private() && settings.networks.iter().any(|all| all.contains(it)),
        IpAddr::V6(it) => {
            it.is_unique_local() && settings.networks6.iter().any(|all| all.contains(it))
        }
    }
}

/// The guest by its name, bare or in the pod's first domain; localhost (RFC 6761 §6.3).
fn own_address(text: &str, settings: &Settings) -> Option<Ipv4Addr> {
    if text == "localhost" || text.ends_with(".localhost") {
        return Some(Ipv4Addr::LOCALHOST);
    }
    let hostname = settings.hostname.to_ascii_lowercase();
    let first = settings.search.first();
    let is =
        |name: &str| text == name || first.is_some_and(|domain| text == format!("{name}.{domain}"));
    (!hostname.is_empty() && is(&hostname)).then_some(settings.guest)
}

/// The addresses a client of ours has under this name, bare or in our domain; or its name.
fn leased(
    now: Instant,
    text: &str,
    query: &Query,
    settings: &Settings,
    names: &Names,
) -> Option<Vec<u8>> {
    let kind = query.question.query_type();
    let data = match names.find(now, text, settings.domain.as_deref())? {
        Found::Addresses(four, six) => {
            let all = [four.map(IpAddr::V4), six.map(IpAddr::V6)];
            return Some(query.addresses(&all.into_iter().flatten().collect::<Vec<_>>()));
        }
        Found::Name(name) => {
            let name = Name::from_ascii(format!("{}.", whole(name, settings))).ok();
            name.filter(|_| kind == RecordType::PTR).map(|name| RData::PTR(PTR(name)))
        }
    };
    Some(query.own(data.as_slice()))
}

/// What `hosts` say of a name, bare or in our domain, or of an address.
fn host(text: &str, query: &Query, settings: &Settings) -> Option<Vec<u8>> {
    if let Some(addresses) = names::configured(text, settings) {
        return Some(query.addresses(&addresses));
    }
    let kind = query.question.query_type();
    let reverse =
        |address: &IpAddr| Name::from(*address).to_ascii().trim_end_matches('.').to_owned();
    let (name, _) = settings.hosts.iter().find(|(_, address)| text == reverse(address))?;
    let data = Name::from_ascii(format!("{}.", whole(name, settings)))
        .ok()
        .filter(|_| kind == RecordType::PTR);
    Some(query.own(&data.map(|name| RData::PTR(PTR(name))).into_iter().collect::<Vec<_>>()))
}

fn own_pointer(text: &str, settings: &Settings) -> Option<String> {
    let address = reversed(text)?;
    if !settings.hostname.is_empty() && address == settings.guest {
        let domain = settings.search.first().map(|domain| format!(".{domain}")).unwrap_or_default();
        return Some(format!("{}{domain}.", settings.hostname));
    }
    let ours = [settings.gateway.map(IpAddr::V4), settings.gateway6.map(IpAddr::V6)];
    let is_ours = ours.contains(&Some(address)) && names::configured("gateway", settings).is_none();
    is_ours.then(|| "gateway.".to_owned())
}

impl Query {
    /// Those of the kind that is asked for.
    fn addresses(&self, all: &[IpAddr]) -> Vec<u8> {
        let of_kind = |address: &IpAddr| match (address, self.question.query_type()) {
            (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(*address))),
            (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(*address))),
            _ => None,
        };
        self.own(&all.iter().filter_map(of_kind).collect::<Vec<_>>())
    }

    /// An authoritative answer of ours; without data it says so, with an SOA of ours (RFC 2308 §2.2).
    fn own(&self, data: &[RData]) -> Vec<u8> {
        let mut message = self.answer();
        message.metadata.authoritative = true;
        message.metadata.message_type = MessageType::Response;
        for rdata in data {
            message.add_answer(Record::from_rdata(self.name().clone(), LOCAL_TTL, rdata.clone()));
        }
        if data.is_empty() {
            message.add_authority(self.soa());
        }
        self.encode(&message)
    }

    /// That a name of our own domain does not exist.
    fn no_such_name(&self) -> Vec<u8> {
        let mut message = self.answer();
        message.metadata.authoritative = true;
        message.metadata.response_code = ResponseCode::NXDomain;
        message.add_authority(self.soa());
        self.encode(&message)
    }

    fn soa(&self) -> Record {
        let root = Name::root();
        let soa = SOA::new(root.clone(), root, 1, 3600, 600, 86_400, LOCAL_TTL);
        Record::from_rdata(self.name().clone(), LOCAL_TTL, RData::SOA(soa))
    }
}
