//! Who gets which address (RFC 2131 §4.3), message by message.
//!
//! ```text
//!            DISCOVER            REQUEST              (time)
//!   free ─────────────► offered ─────────► bound ───────────────► free, remembered
//!    ▲                     │ 60 s, or        │ ▲ REQUEST              │
//!    │                     │ other server    │ └───────────────────── │
//!    └─────────────────────┘                 ├── RELEASE ─► free, remembered
//!                                            └── DECLINE ─► quarantine ─► free
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::MessageType;

use super::reply::{Fixed, Options};
use super::request::Request;
use super::{Decision, INFINITE, Reason, ReservedFor, Responder, Transmit, code, fqdn};
use crate::net::host_label;
use crate::proto::Now;
use crate::proto::leases::{ClientId, Hardware, Lease, State};

/// BOOTP's vendor field is 64 octets, the cookie among them (RFC 1542 §2.1).
const BOOTP_SIZE: usize = 300;
/// RFC 2131 leaves it to us; the table says at most this.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

type Decided = Result<Decision, Reason>;

/// Who asks, where.
#[derive(Debug)]
pub(super) struct Client {
    id: ClientId,
    hardware: Hardware,
    /// Subnets of the client's link, by preference.
    on: Vec<usize>,
    /// Reservation, and the subnet it is in.
    reservation: Option<(usize, usize)>,
}

/// What tells the client's state (RFC 2131 §4.3.2, table 4), with the address it asks for.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Selecting(Ipv4Addr),
    /// INIT-REBOOT.
    Rebooting(Ipv4Addr),
    /// Or rebinding; `us`: it names this server.
    Renewing {
        address: Ipv4Addr,
        us: bool,
    },
}

impl Phase {
    fn address(self) -> Ipv4Addr {
        match self {
            Self::Selecting(address)
            | Self::Rebooting(address)
            | Self::Renewing { address, .. } => address,
        }
    }
}

/// An address with its subnet.
type Place = (usize, Ipv4Addr);

impl Responder {
    /// Who asks; not more often than it may.
    pub(super) fn client(&mut self, now: Now, request: &Request) -> Result<Client, Reason> {
        let on = self.link.subnets(&self.settings, request)?;
        let reservation = self.link.reservation(
            &self.settings,
            &on,
            request.mac,
            request.option(code::CLIENT_ID),
        );
        let id = self.identity(now, request, &on, reservation).ok_or(Reason::HardwareAddress)?;
        let client = Client { id, hardware: request.hardware, on, reservation };
        let renews = match self.phase(request) {
            Some(Phase::Renewing { address, .. }) => self.is_bound(now, &client, address),
            _ => false,
        };
        if self.limiter.admits(now.monotonic, client.hardware, &client.id, renews) {
            Ok(client)
        } else {
            Err(Reason::TooMany)
        }
    }

    /// RFC 2131 §4.2: by client identifier, else by hardware address. A reservation by MAC is for the machine,
    /// whatever it calls itself. Two machines with one identifier, as images copied after their first boot have,
    /// are told apart by MAC as long as the first one holds its lease. None: it says nothing that tells it from others.
    fn identity(
        &self,
        now: Now,
        request: &Request,
        on: &[usize],
        reservation: Option<(usize, usize)>,
    ) -> Option<ClientId> {
        let reserved = reservation.and_then(|(at, _)| self.settings.reservations.get(at));
        let machine = request.machine();
        let said = match (
            reserved.map(|reservation| &reservation.client),
            request.option(code::CLIENT_ID),
        ) {
            (Some(ReservedFor::Mac(_)), _) => return machine.as_deref().map(ClientId::new),
            (Some(ReservedFor::ClientId(id)), _) => return Some(ClientId::new(id)),
            (None, Some(given)) => given,
            (None, None) => machine.as_deref()?,
        };
        let (id, both) = (ClientId::new(said), ClientId::new(&[said, &request.mac.0].concat()));
        let others = |lease: &Lease| is_live(now, lease) && lease.hardware != request.hardware;
        let is_copy = self.records(now, on, &both).any(|lease| is_live(now, &lease))
            || self.records(now, on, &id).any(|lease| others(&lease));
        Some(if is_copy { both } else { id })
    }

    pub(super) fn discover(&mut self, now: Now, request: &Request, client: &Client) -> Decided {
        if let Some(place) = self.one_guest(client) {
            return Ok(self.lease(request, client, MessageType::Offer, place));
        }
        let existing_lease = self.existing_lease(now, client);
        let asked = || request.address.and_then(|address| self.takes(now, client, address));
        let Some(place) = existing_lease.or_else(asked).or_else(|| self.free(now, client)) else {
            let subnet = client.on.first().copied().unwrap_or_default();
            let tell = request.has(code::AUTO_CONFIGURE)
                && self.link.values(subnet).is_some_and(|values| values.no_auto_configure);
            if !tell {
                return Err(Reason::Exhausted);
            }
            self.count(Reason::Exhausted);
            return Ok(Decision::new(MessageType::Offer, subnet));
        };
        let is_new = existing_lease.is_none();
        let decision = if self.settings.rapid_commit && request.has(code::RAPID_COMMIT) {
            Decision { rapid: true, ..self.bind(now, request, client, place)? }
        } else {
            let decision = self.lease(request, client, MessageType::Offer, place);
            self.hold(now, client, place.1)?;
            decision
        };
        Ok(Decision { probe: is_new && self.settings.probe, ..decision })
    }

    /// RFC 2131 §4.3.2.
    pub(super) fn request(&mut self, now: Now, request: &Request, client: &Client) -> Decided {
        if request.server.is_some_and(|server| !self.is_us(request, server)) {
            self.withdraw(now, client);
            return Err(Reason::OtherServer);
        }
        let phase = self.phase(request).ok_or(Reason::BadMix)?;
        let one_guest = self.one_guest(client);
        let existing_lease = one_guest.or_else(|| self.existing_lease(now, client));
        let has = existing_lease.is_some_and(|(_, own)| self.holds(now, client, own));
        let address = phase.address();
        let own = existing_lease.filter(|(_, own)| *own == address);
        let lacks = match phase {
            // An offer may be forgotten, by time or by a restart.
            Phase::Selecting(_) => !has && one_guest.is_none(),
            _ => existing_lease.is_none(),
        };
        // Who has no lease here, and does not say that it means us, may be another server's client, whatever it was
        // offered.
        let bound = existing_lease.is_some_and(|(_, own)| self.is_bound(now, client, own));
        let may_be_another_s =
            !matches!(phase, Phase::Selecting(_) | Phase::Renewing { us: true, .. })
                && own.is_none()
                && !bound
                && one_guest.is_none();
        if may_be_another_s && !self.settings.authoritative {
            return Err(Reason::UnknownClient);
        }
        match own.or_else(|| self.takes(now, client, address).filter(|_| lacks)) {
            Some(place) if one_guest.is_some() => {
                Ok(self.lease(request, client, MessageType::Ack, place))
            }
            Some(place) => self.bind(now, request, client, place),
            None => {
                Ok(Decision::new(MessageType::Nak, client.on.first().copied().unwrap_or_default()))
            }
        }
    }

    /// What a REQUEST is for. RFC 2131 table 4 has neither 50 nor 54 in one that renews, but clients send them; where
    /// they say the same as ciaddr nothing is in doubt, and a client without an answer loses its lease.
    fn phase(&self, request: &Request) -> Option<Phase> {
        let us = request.server.is_some_and(|server| self.is_us(request, server));
        match (request.server, request.address, request.ciaddr) {
            (Some(_), Some(address), None) if us => Some(Phase::Selecting(address)),
            (None, Some(address), None) => Some(Phase::Rebooting(address)),
            (server, asked, Some(address))
                if us == server.is_some() && asked.is_none_or(|it| it == address) =>
            {
                Some(Phase::Renewing { address, us })
            }
            _ => None,
        }
    }

    /// RFC 2131 §4.3.3.
    pub(super) fn decline(&mut self, now: Now, request: &Request, client: &Client) -> Decided {
        if self.one_guest(client).is_some() {
            return Err(Reason::Declined);
        }
        request.server.ok_or(Reason::NotHeld)?;
        let address = self.held(now, client, request, request.address)?;
        self.leases.decline(now, address, self.settings.quarantine);
        self.declined = Some(address);
        Err(Reason::Declined)
    }

    /// RFC 2131 §4.3.4. systemd-networkd leaves out which server it means.
    pub(super) fn release(&mut self, now: Now, request: &Request, client: &Client) -> Decided {
        if self.one_guest(client).is_some() {
            return Err(Reason::Released);
        }
        let address = self.held(now, client, request, request.ciaddr)?;
        self.leases.release(now, address);
        Err(Reason::Released)
    }

    /// RFC 2131 §4.3.5: parameters only, to the address the client has.
    pub(super) fn inform(&mut self, _: Now, request: &Request, client: &Client) -> Decided {
        request.ciaddr.ok_or(Reason::BadMix)?;
        let subnet = client.on.first().copied().ok_or(Reason::NoSubnet)?;
        Ok(Decision {
            reservation: client.reservation.map(|(at, _)| at),
            ..Decision::new(MessageType::Ack, subnet)
        })
    }

    /// RFC 951, RFC 1534: the reserved address for ever, and what fits into the vendor field.
    pub(super) fn bootp(&mut self, now: Now, request: &Request) -> Result<Transmit, Reason> {
        if !self.settings.bootp {
            return Err(Reason::NoMessageType);
        }
        let client = self.client(now, request)?;
        let free = |&(at, _): &(usize, usize)| {
            let reservation = self.settings.reservations.get(at);
            reservation.is_some_and(|it| self.leases.is_free_for(now, it.address, &client.id))
        };
        let (at, on) = client.reservation.filter(free).ok_or(Reason::UnknownClient)?;
        let reservation = self.settings.reservations.get(at).ok_or(Reason::UnknownClient)?;
        let subnet = self.settings.subnets.get(on).ok_or(Reason::NoSubnet)?;
        let values = self.link.values(on).ok_or(Reason::NoSubnet)?;
        let mut options = Options::bare();
        let file = values.fill(&mut options, subnet, request, Some(reservation));
        let fixed = Fixed {
            yiaddr: reservation.address,
            siaddr: subnet.parameters.next_server.unwrap_or(subnet.server),
            file,
            ..Fixed::of(request)
        };
        let options = if request.cookie { options } else { Options::bare() };
        let (payload, _) = options.lay_out(request, fixed, BOOTP_SIZE, values.max());
        let destination = super::destination(request, MessageType::Ack, reservation.address, None);
        let (client, address) = (request.mac, reservation.address);
        Ok(Transmit { destination, payload, kind: None, client, address, probe: None })
    }

    fn is_us(&self, request: &Request, server: Ipv4Addr) -> bool {
        request.relay(code::SERVER_OVERRIDE) == Some(server)
            || self.settings.subnets.iter().any(|subnet| subnet.server == server)
    }

    fn one_guest(&self, client: &Client) -> Option<Place> {
        client.on.iter().find_map(|&subnet| Some((subnet, self.link.one_guest(subnet)?)))
    }

    /// The address that is the client's: reserved, or the one it has or had, when nobody else has it now.
    fn existing_lease(&self, now: Now, client: &Client) -> Option<Place> {
        let reserved = client
            .reservation
            .and_then(|(at, subnet)| Some((subnet, self.settings.reservations.get(at)?.address)));
        let free = |&(_, address): &Place| self.leases.is_free_for(now, address, &client.id);
        let remembered = || {
            self.records(now, &client.on, &client.id)
                .filter(|lease| lease.state != State::Declined)
                .filter_map(|lease| {
                    Some((self.link.giving(&client.on, lease.address)?, lease.address))
                })
                .find(free)
        };
        reserved.filter(free).or_else(remembered)
    }

    fn records<'a>(
        &'a self,
        now: Now,
        on: &'a [usize],
        id: &'a ClientId,
    ) -> impl Iterator<Item = Lease> + 'a {
        on.iter().filter_map(move |&subnet| self.leases.of_client(now, id, self.link.whole(subnet)))
    }

    /// An address anyone may have that nobody else has.
    fn takes(&self, now: Now, client: &Client, address: Ipv4Addr) -> Option<Place> {
        let subnet = self.link.giving(&client.on, address)?;
        self.leases.is_free_for(now, address, &client.id).then_some((subnet, address))
    }

    fn free(&mut self, now: Now, client: &Client) -> Option<Place> {
        let (link, leases) = (&self.link, &mut self.leases);
        client.on.iter().find_map(|&subnet| {
            let address = leases.free(now, link.pool(subnet), &|address| link.is_kept(address))?;
            Some((subnet, address))
        })
    }

    /// Offered or bound to this client now.
    fn holds(&self, now: Now, client: &Client, address: Ipv4Addr) -> bool {
        let lease = self.leases.of_address(now, address);
        lease.is_some_and(|lease| lease.client == client.id && is_live(now, &lease))
    }

    fn is_bound(&self, now: Now, client: &Client, address: Ipv4Addr) -> bool {
        let lease = self.leases.of_address(now, address);
        lease.is_some_and(|lease| {
            lease.state == State::Bound && lease.client == client.id && is_live(now, &lease)
        })
    }

    /// The address a DECLINE or RELEASE is about.
    fn held(
        &self,
        now: Now,
        client: &Client,
        request: &Request,
        address: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, Reason> {
        if request.server.is_some_and(|server| !self.is_us(request, server)) {
            return Err(Reason::OtherServer);
        }
        address.filter(|&address| self.holds(now, client, address)).ok_or(Reason::NotHeld)
    }

    /// Keeps what is offered from others for a while. A binding the client has stays as it is.
    fn hold(&mut self, now: Now, client: &Client, address: Ipv4Addr) -> Result<(), Reason> {
        let hold = self.settings.offer_hold.min(LONGEST_HOLD);
        if self.is_bound(now, client, address)
            || self.leases.offer(now, address, &client.id, client.hardware, hold)
        {
            Ok(())
        } else {
            Err(Reason::Exhausted)
        }
    }

    /// The client took another server's offer.
    fn withdraw(&mut self, now: Now, client: &Client) {
        let offered =
            self.records(now, &client.on, &client.id).find(|lease| lease.state == State::Offered);
        if let Some(lease) = offered {
            self.leases.withdraw(lease.address);
        }
    }

    fn bind(&mut self, now: Now, request: &Request, client: &Client, place: Place) -> Decided {
        let decision = self.lease(request, client, MessageType::Ack, place);
        let lease = decision.lease_secs.filter(|secs| *secs != INFINITE);
        let lease = lease.map(|secs| Duration::from_secs(secs.into()));
        let reserved = client
            .reservation
            .and_then(|(at, _)| self.settings.reservations.get(at)?.name.as_deref());
        let own = || request.option(code::FQDN).and_then(fqdn::label);
        let given = request.option(code::HOST_NAME);
        let name = reserved.or_else(own).or_else(|| given.and_then(host_label));
        let unusable = given.filter(|_| name.is_none());
        let bound = self.leases.bind(now, place.1, &client.id, client.hardware, name, lease);
        if let Some(given) = unusable.filter(|_| bound) {
            self.count(Reason::Name);
            self.unusable = Some((request.mac, given.to_owned()));
        }
        if bound { Ok(decision) } else { Err(Reason::Exhausted) }
    }

    fn lease(
        &self,
        request: &Request,
        client: &Client,
        kind: MessageType,
        (subnet, address): Place,
    ) -> Decision {
        Decision {
            address: Some(address),
            lease_secs: self.lease_secs(request, subnet),
            reservation: client.reservation.map(|(at, _)| at),
            ..Decision::new(kind, subnet)
        }
    }

    /// What the client asks for, within reason.
    fn lease_secs(&self, request: &Request, subnet: usize) -> Option<u32> {
        let time = self.settings.subnets.get(subnet)?.lease;
        Some(request.lease_secs.unwrap_or(time.default).max(time.min).min(time.max))
    }
}

impl Decision {
    fn new(kind: MessageType, subnet: usize) -> Self {
        Self {
            kind,
            subnet,
            address: None,
            lease_secs: None,
            reservation: None,
            rapid: false,
            probe: false,
        }
    }
}

fn is_live(now: Now, lease: &Lease) -> bool {
    matches!(lease.state, State::Offered | State::Bound)
        && lease.until.is_none_or(|until| until > now.monotonic)
}
