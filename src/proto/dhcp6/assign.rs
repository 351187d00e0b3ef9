//! Who gets which address of a pool (RFC 8415 §18.3), message by message. A client is a DUID with an IAID.
//!
//! ```text
//!            SOLICIT             REQUEST              (time)
//!   free ─────────────► offered ─────────► bound ───────────────► free, remembered
//!    ▲                     │ hold, or       │ ▲ RENEW, REBIND        │
//!    │                     │ other server   │ └───────────────────── │
//!    └─────────────────────┘                ├── RELEASE ─► free, remembered
//!                                           └── DECLINE ─► quarantine ─► free
//! ```

use std::net::Ipv6Addr;
use std::time::Duration;

use dhcproto::v6::{MessageType, Status};

use super::binding::{Content, Decision};
use super::message::{Association, Kind, Message};
use super::pool::{MAX_HELD, Places, Pool, Reservation, ReservedFor};
use super::{Duid, INFINITE, Lifetimes, Reason, fqdn};
use crate::net::MacAddr;
use crate::proto::Now;
use crate::proto::leases::{Address, ClientId, Hardware, Lease, Leases, State};

/// The offer of an address waits so long at most.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// One message, and all it takes to decide about it.
pub(super) struct Assignment<'r, 'a> {
    pub pool: &'r Pool,
    pub places: &'r Places,
    pub leases: &'r mut Leases<Ipv6Addr>,
    pub now: Now,
    pub message: &'a Message<'a>,
    pub client: &'r Client,
    /// Whether a SOLICIT may get its REPLY at once.
    pub rapid_commit: bool,
}

/// Who asks, where.
#[derive(Debug)]
pub(super) struct Client {
    duid: Duid,
    mac: Option<MacAddr>,
    /// Its subnet.
    on: usize,
}

impl Client {
    /// None: an INFORMATION-REQUEST of who does not say who it is.
    pub fn new(message: &Message, mac: Option<MacAddr>, on: usize) -> Option<Self> {
        let duid = Duid::new(message.client?)?;
        Some(Self { mac: mac.or(duid.mac()), duid, on })
    }

    pub fn hardware(&self) -> Hardware {
        let kind = u8::from(self.mac.is_some());
        Hardware { kind, address: self.mac.unwrap_or(MacAddr([0; 6])) }
    }

    /// Of the machine.
    pub fn owner(&self) -> ClientId {
        ClientId::new(self.duid.octets())
    }

    fn id(&self, association: &Association) -> ClientId {
        ClientId::new(&[self.duid.octets(), &association.id].concat())
    }
}

impl<'a> Assignment<'_, 'a> {
    /// None: a message that has no answer, though nothing is wrong with it.
    pub fn decide(&mut self) -> Result<Option<Decision<'a>>, Reason> {
        if self.places.is_empty(self.pool) {
            return Err(Reason::NothingToGive);
        }
        match self.message.kind {
            MessageType::Solicit => Ok(Some(self.solicit())),
            MessageType::Request => Ok(Some(self.request())),
            MessageType::Renew | MessageType::Rebind => Ok(self.renew()),
            MessageType::Confirm => Ok(self.confirm()),
            MessageType::Release | MessageType::Decline => Ok(Some(self.give_back())),
            _ => Err(Reason::UnknownMessageType),
        }
    }

    /// Whether it renews what it has: others do not keep it from that.
    pub fn renews(&self) -> bool {
        matches!(self.message.kind, MessageType::Renew | MessageType::Rebind)
            && self.lasting().any(|it| self.binding(&self.client.id(it)).is_some())
    }

    /// The client took another server's offer.
    pub fn withdraw(&mut self) {
        let offered: Vec<Lease<Ipv6Addr>> =
            self.lasting().filter_map(|it| self.record(&self.client.id(it))).collect();
        for lease in offered.iter().filter(|lease| lease.state == State::Offered) {
            self.leases.withdraw(lease.address);
        }
    }

    /// RFC 8415 §18.3.1, §18.3.9.
    fn solicit(&mut self) -> Decision<'a> {
        let rapid = self.rapid_commit && self.message.rapid_commit;
        let associations = self.each(|this, association| {
            let address = this.place(association)?;
            let has = if rapid {
                this.bind(association, address)
            } else {
                this.hold(association, address)
            };
            has.then(|| Content::Lease { given: vec![address], ended: Vec::new() })
        });
        let leases =
            associations.iter().any(|(_, content)| matches!(content, Content::Lease { .. }));
        let rapid_commit = rapid && leases;
        let kind = if rapid_commit { MessageType::Reply } else { MessageType::Advertise };
        self.decision(kind, associations, rapid_commit)
    }

    /// RFC 8415 §18.3.2.
    fn request(&mut self) -> Decision<'a> {
        let associations = self.each(|this, association| {
            if !association.addresses.iter().all(|address| this.is_on_link(*address)) {
                return Some(Content::Refused(Status::NotOnLink));
            }
            let address = this.place(association)?;
            let has = this.bind(association, address);
            has.then(|| Content::Lease { given: vec![address], ended: Vec::new() })
        });
        self.decision(MessageType::Reply, associations, false)
    }

    /// RFC 8415 §18.3.4, §18.3.5. None: other servers may know better.
    fn renew(&mut self) -> Option<Decision<'a>> {
        let rebinds = self.message.kind == MessageType::Rebind;
        let mut associations = self.each(|this, association| {
            let named = &association.addresses;
            let others = |kept: Option<Ipv6Addr>| {
                let mut ended: Vec<Ipv6Addr> = Vec::new();
                for address in named {
                    if Some(*address) != kept && !ended.contains(address) {
                        ended.push(*address);
                    }
                }
                ended
            };
            if let Some(address) = this.renewed(association)
                && this.bind(association, address)
            {
                return Some(Content::Lease { given: vec![address], ended: others(Some(address)) });
            }
            let strange = !named.is_empty() && !named.iter().any(|it| this.is_on_link(*it));
            Some(if rebinds && strange && this.pool.authoritative {
                Content::Lease { given: Vec::new(), ended: others(None) }
            } else {
                Content::Refused(Status::NoBinding)
            })
        });
        if rebinds && !self.pool.authoritative {
            associations.retain(|(_, content)| matches!(content, Content::Lease { .. }));
        }
        (!associations.is_empty() || !rebinds)
            .then(|| self.decision(MessageType::Reply, associations, false))
    }

    /// The address that an association has from now on; None: nothing is known of it.
    fn renewed(&mut self, association: &Association) -> Option<Ipv6Addr> {
        let id = self.client.id(association);
        let reserved = self.reserved(association);
        let Some(binding) = self.binding(&id) else {
            // Forgotten, with the file or by its end.
            let its_own = |address: &Ipv6Addr| {
                Some(*address) == reserved
                    || self.places.gives(self.pool, self.client.on, *address)
                        && self.leases.is_free_for(self.now, *address, &id)
                        && self.may_have_more()
            };
            let named = association.addresses.iter().copied();
            return named.into_iter().find(its_own).filter(|_| self.pool.authoritative);
        };
        if reserved.is_none() && self.places.gives(self.pool, self.client.on, binding.address) {
            return Some(binding.address);
        }
        let place = self.place(association);
        if place.is_some_and(|place| place != binding.address) {
            self.leases.release(self.now, binding.address);
        }
        place
    }

    /// RFC 8415 §18.3.3: whether addresses are of the link, not whose they are.
    fn confirm(&self) -> Option<Decision<'a>> {
        let mut named = self.message.named().peekable();
        named.peek()?;
        let on_link = named.all(|address| self.is_on_link(address));
        let status = if on_link { Status::Success } else { Status::NotOnLink };
        (on_link || self.pool.authoritative).then(|| Decision::status(status))
    }

    /// RFC 8415 §18.3.7, §18.3.8.
    fn give_back(&mut self) -> Decision<'a> {
        let declines = self.message.kind == MessageType::Decline;
        let message = self.message;
        let mut associations = Vec::new();
        let mut declined = Vec::new();
        for association in &message.associations {
            let id = self.client.id(association);
            let mut is_known = false;
            for address in &association.addresses {
                if association.kind != Kind::Lasting || !self.is_bound(&id, *address) {
                    continue;
                }
                is_known = true;
                if declines {
                    self.leases.decline(self.now, *address, self.pool.quarantine);
                    declined.push(*address);
                } else {
                    self.leases.release(self.now, *address);
                }
            }
            if !is_known {
                associations.push((association, Content::Refused(Status::NoBinding)));
            }
        }
        Decision { associations, declined, ..Decision::status(Status::Success) }
    }

    fn decision(
        &self,
        kind: MessageType,
        associations: Vec<(&'a Association, Content)>,
        rapid_commit: bool,
    ) -> Decision<'a> {
        let valid = self.valid();
        let lifetimes = Some(Lifetimes::of(valid, valid));
        Decision { associations, rapid_commit, lifetimes, ..Decision::new(kind) }
    }

    /// What each association gets, and why others get nothing.
    fn each(
        &mut self,
        mut content: impl FnMut(&mut Self, &'a Association) -> Option<Content>,
    ) -> Vec<(&'a Association, Content)> {
        let message = self.message;
        let (mut seen, mut answered) = (Vec::new(), Vec::new());
        for association in &message.associations {
            let is_one = association.kind == Kind::Lasting
                && seen.len() < MAX_HELD
                && !seen.contains(&association.id);
            let has = if is_one {
                seen.push(association.id);
                content(self, association)
            } else {
                None
            };
            let nothing = match association.kind {
                Kind::Prefixes => Status::NoPrefixAvail,
                Kind::Lasting | Kind::Temporary => Status::NoAddrsAvail,
            };
            answered.push((association, has.unwrap_or(Content::Refused(nothing))));
        }
        answered
    }

    fn lasting(&self) -> impl Iterator<Item = &'a Association> + use<'a> {
        self.message.associations.iter().filter(|it| it.kind == Kind::Lasting)
    }

    /// An address for the association: reserved, then its current or previous one, then one that it names, then a new one.
    fn place(&mut self, association: &Association) -> Option<Ipv6Addr> {
        let id = self.client.id(association);
        let (pool, places, on) = (self.pool, self.places, self.client.on);
        let free = |leases: &Leases<Ipv6Addr>, address: Ipv6Addr| {
            places.gives(pool, on, address) && leases.is_free_for(self.now, address, &id)
        };
        if let Some(reserved) = self.reserved(association) {
            return Some(reserved);
        }
        let record = self.record(&id).filter(|lease| free(self.leases, lease.address));
        if let Some(lease) = record {
            let is_live = self.binding(&id).is_some() || lease.state == State::Offered;
            return Some(lease.address).filter(|_| is_live || self.may_have_more());
        }
        if !self.may_have_more() {
            return None;
        }
        let named = association.addresses.iter().copied();
        if let Some(named) = named.into_iter().find(|address| free(self.leases, *address)) {
            return Some(named);
        }
        // Not one that another was seen with: it may come back.
        let is_new = |address: &Ipv6Addr| self.leases.of_address(self.now, *address).is_none();
        let spread = places.spread(pool, on, &id).find(is_new);
        spread.or_else(|| {
            let ranges = &pool.subnets.get(on)?.ranges;
            self.leases.free(self.now, ranges, &|address| !places.is_free(pool, on, address))
        })
    }

    /// Whether the machine has fewer addresses than it may, those of this message's other associations among them.
    fn may_have_more(&self) -> bool {
        self.leases.held_by(self.now, self.client.duid.octets()) < MAX_HELD
    }

    /// The reserved address, when the association is the one that has it: the one that has it already, else the first.
    fn reserved(&self, association: &Association) -> Option<Ipv6Addr> {
        let reservation = self.reservation()?;
        let holder = self.leases.of_address(self.now, reservation.address);
        let holder = holder.filter(|lease| is_live(self.now, lease));
        let holds = |it: &Association| {
            holder.as_ref().is_some_and(|lease| lease.client == self.client.id(it))
        };
        let its = self.lasting().find(|it| holds(it)).or_else(|| self.lasting().next())?;
        let is_free = holder.is_none_or(|lease| self.is_its_machine(&lease, reservation));
        (its.id == association.id && is_free).then_some(reservation.address)
    }

    fn reservation(&self) -> Option<&Reservation> {
        let client = self.client;
        self.places.reservation(self.pool, client.on, Some(&client.duid), client.mac)
    }

    /// Whether who has the reserved address is the machine it is for, under another name: its firmware, an earlier system.
    fn is_its_machine(&self, lease: &Lease<Ipv6Addr>, reservation: &Reservation) -> bool {
        let duid = Ipv6Addr::owner(&lease.client.0);
        let same = duid == self.client.duid.octets();
        let is_for = match &reservation.client {
            ReservedFor::Duid(reserved) => duid == reserved.octets(),
            ReservedFor::Mac(mac) => lease.hardware.address == *mac,
        };
        lease.state == State::Bound && (same || is_for)
    }

    /// The association's address in its subnet: bound, else offered, else the one it had.
    fn record(&self, id: &ClientId) -> Option<Lease<Ipv6Addr>> {
        let subnet = self.pool.subnets.get(self.client.on)?;
        let found = self.leases.of_client(self.now, id, &subnet.whole());
        found.filter(|lease| lease.state != State::Declined)
    }

    fn binding(&self, id: &ClientId) -> Option<Lease<Ipv6Addr>> {
        self.record(id).filter(|lease| lease.state == State::Bound && is_live(self.now, lease))
    }

    fn is_bound(&self, id: &ClientId, address: Ipv6Addr) -> bool {
        let lease = self.leases.of_address(self.now, address);
        lease.is_some_and(|lease| {
            lease.state == State::Bound && lease.client == *id && is_live(self.now, &lease)
        })
    }

    fn is_on_link(&self, address: Ipv6Addr) -> bool {
        self.pool.subnets.get(self.client.on).is_some_and(|it| it.network.contains(address))
    }

    /// Keeps what is offered from others for a while. What it has stays as it is, and a reserved address needs no keeping.
    fn hold(&mut self, association: &Association, address: Ipv6Addr) -> bool {
        let id = self.client.id(association);
        let hold = self.pool.offer_hold.min(LONGEST_HOLD);
        self.places.is_kept(address)
            || self.is_bound(&id, address)
            || self.leases.offer(self.now, address, &id, self.client.hardware(), hold)
    }

    fn bind(&mut self, association: &Association, address: Ipv6Addr) -> bool {
        let id = self.client.id(association);
        let reservation = self.reservation().filter(|it| it.address == address);
        let reserved = reservation.and_then(|it| it.name.clone());
        let is_reserved = reservation.is_some();
        if is_reserved && !self.leases.is_free_for(self.now, address, &id) {
            // By the same machine: see `reserved`.
            self.leases.release(self.now, address);
        }
        let name = reserved.or_else(|| self.message.fqdn.and_then(fqdn::label).map(str::to_owned));
        let valid = self.valid();
        let lease = (valid != INFINITE).then(|| Duration::from_secs(valid.into()));
        let hardware = self.client.hardware();
        self.leases.bind(self.now, address, &id, hardware, name.as_deref(), lease)
    }

    /// Seconds: what the client asks for, within bounds.
    fn valid(&self) -> u32 {
        let Some(subnet) = self.pool.subnets.get(self.client.on) else { return 0 };
        let asked = self.lasting().map(|it| it.valid).max().filter(|valid| *valid > 0);
        asked.unwrap_or(subnet.lease.default).max(subnet.lease.min).min(subnet.lease.max)
    }
}

fn is_live(now: Now, lease: &Lease<Ipv6Addr>) -> bool {
    matches!(lease.state, State::Offered | State::Bound)
        && lease.until.is_none_or(|until| until > now.monotonic)
}
