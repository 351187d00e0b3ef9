//! The way of a packet through the hooks, and the routing decisions between them.
//!
//! ```text
//! ingress ► prerouting ► routed ─┬─► input ► a socket of this machine
//!                                └─► forward ────────┐
//!            a socket ► routed ► output ► (again) ─► postrouting ► egress
//! ```

use std::ops::Not;

use super::super::names::key::ct;
use super::super::{Expr, Family};
use super::bits::{Bits, Truth};
use super::load::OTHER_HOST;
use super::packet::{State, bits_of};
use super::track::Zone;
use super::words::number;
use super::world::{Interface, Question, Route, kind};
use super::{LOOPBACK, Outcome, Path, Point, Step, Stop, Walk};

impl Walk<'_> {
    /// To its end; an error only where a question is open.
    pub(super) fn go(&mut self, path: Path) -> Result<(Outcome, String), Question> {
        let result = match path {
            Path::Arriving => self.arriving(),
            Path::Local => self.local(),
            Path::Hook(point) => self.only(point),
        };
        match result {
            Ok(why) => Ok((Outcome::Accepted, why)),
            Err(Stop::Over(outcome, why)) => Ok((outcome, why)),
            Err(Stop::Ask(question)) => Err(question),
        }
    }

    fn only(&mut self, point: Point) -> Result<String, Stop> {
        if !matches!(point, Point::Ingress | Point::Prerouting | Point::Output) {
            self.classify();
            self.original = Some(self.packet.clone());
            self.zone = self.zone_by_then();
        }
        self.hook(point)?;
        Ok(format!("goes on after {point} as {}", self.packet))
    }

    /// The zone of a packet that is only met at a later hook: its connection's, or what rules before may have set.
    fn zone_by_then(&self) -> Option<Zone> {
        let rules = self
            .ruleset
            .tables
            .iter()
            .flat_map(|table| &table.chains)
            .flat_map(|chain| &chain.rules);
        let mut exprs = rules.flat_map(|rule| &rule.exprs);
        let sets_zone = |expr: &Expr| match expr {
            Expr::CtSet { key, .. } => *key == ct::ZONE,
            Expr::Xt { target, name, .. } => *target && name == "CT",
            _ => false,
        };
        let id = match self.packet.connection.zone {
            Some(zone) => Bits::known(&zone.to_ne_bytes()),
            None if exprs.any(sets_zone) => Bits::unknown(2),
            None => return None,
        };
        Some(Zone { id, direction: None })
    }

    /// IP takes no frame to another host, and forwards none that is not to this one alone.
    fn is_for_us(&self, others_too: bool) -> Result<(), Stop> {
        let Some(kind) = self.packet.kind.clone().or_else(|| self.kind_by_link()) else {
            return Ok(());
        };
        let (refused, why) = if others_too {
            (kind.equals(&[0]).not(), "it is not forwarded: its pkttype is not host")
        } else {
            (kind.equals(&[OTHER_HOST]), "IP does not take it: its pkttype is other")
        };
        match refused {
            Truth::No => Ok(()),
            Truth::Yes => Err(Stop::Over(Outcome::Dropped, why.into())),
            Truth::Maybe => Err(Stop::Over(Outcome::CannotTell, "its pkttype is not known".into())),
        }
    }

    fn arriving(&mut self) -> Result<String, Stop> {
        self.hook(Point::Ingress)?;
        self.is_for_us(false)?;
        self.offloaded();
        self.hook(Point::Prerouting)?;
        let iif = self.packet.iif.as_ref().map(|interface| interface.index);
        let (found, link) = self.route(iif)?;
        if found == kind::UNICAST {
            self.forward(link)
        } else {
            self.step_routing("this machine itself");
            self.hook(Point::Input)?;
            Ok(format!("delivered to this machine as {}", self.packet))
        }
    }

    /// A flowtable takes later packets of the connections that rules have given it past the other hooks.
    fn offloaded(&mut self) {
        let tables = self.ruleset.tables.iter().flat_map(|table| &table.flowtables);
        let iif = self.packet.iif.as_ref();
        let on_device = |name: &String| iif.is_none_or(|iif| iif.name == *name);
        let taken = tables
            .filter(|found| found.devices.iter().any(on_device))
            .map(|found| found.name.clone())
            .next();
        if let Some(name) = taken.filter(|_| self.packet.connection.state == State::Established) {
            self.note(&format!(
                "flowtable {name} is on its device: if its connection was added, the packet meets none of what follows"
            ));
        }
    }

    fn forward(&mut self, link: u32) -> Result<String, Stop> {
        self.is_for_us(true)?;
        let oif = self.leave_by(link)?;
        let ttl_at = if self.packet.family == Family::IP6 { 7 } else { 8 };
        let ttl = self.packet.network.part(ttl_at, 1).and_then(|bits| bits.bytes());
        self.step_routing(&format!("forwarded by {}", oif.name));
        if let Some([ttl]) = ttl.as_deref() {
            if *ttl <= 1 {
                return Err(Stop::Over(Outcome::Dropped, "its time to live ends here".into()));
            }
            self.packet.set_ttl(ttl - 1);
        }
        self.hook(Point::Forward)?;
        self.leave()
    }

    fn local(&mut self) -> Result<String, Stop> {
        let source = self.packet.source();
        let (_, link) = self.route(None)?;
        if source.is_none()
            && let Some(source) = self.preferred
        {
            self.packet.set_address(false, &bits_of(source));
        }
        let oif = self.leave_by(link)?;
        self.step_routing(&format!("leaves by {}", oif.name));
        let before = (self.packet.address(true), self.packet.mark.clone());
        self.hook(Point::Output)?;
        // Nat to another destination, or a mark set by a chain of type route, has it routed again.
        if before.0 != self.packet.address(true)
            || (before.1 != self.packet.mark && self.routes_again())
        {
            let (_, link) = self.route(None)?;
            let oif = self.leave_by(link)?;
            self.step_routing(&format!("leaves by {}", oif.name));
        }
        if self.packet.oif.as_ref().is_some_and(|oif| oif.name == LOOPBACK) {
            self.hook(Point::Postrouting)?;
            return self.come_back();
        }
        self.leave()
    }

    fn routes_again(&self) -> bool {
        let chains = self.ruleset.tables.iter().flat_map(|table| &table.chains);
        chains.filter_map(|chain| chain.hook.as_ref()).any(|hook| hook.kind == "route")
    }

    /// Out of lo and in again; conntrack knows it already.
    fn come_back(&mut self) -> Result<String, Stop> {
        self.packet.iif = self.packet.oif.take();
        self.packet.set_ether(Some([0; 6]), Some([0; 6]));
        self.hook(Point::Ingress)?;
        self.hook(Point::Prerouting)?;
        self.is_still_ours()?;
        self.hook(Point::Input)?;
        Ok(format!("delivered to this machine as {}", self.packet))
    }

    /// A packet that has come back by lo keeps its route; nat has decided before.
    fn is_still_ours(&self) -> Result<(), Stop> {
        let to = self.packet.destination();
        match to.map(|to| self.world.kind_of(to, None)) {
            Some(kind::UNICAST) | None => {
                let why = "it came back by lo, but is not for this machine any more".to_owned();
                Err(Stop::Over(Outcome::CannotTell, why))
            }
            Some(_) => Ok(()),
        }
    }

    fn leave(&mut self) -> Result<String, Stop> {
        self.hook(Point::Postrouting)?;
        self.hook(Point::Egress)?;
        let name = self.packet.oif.as_ref().map_or("?", |interface| interface.name.as_str());
        Ok(format!("leaves by {name} as {}", self.packet))
    }

    fn leave_by(&mut self, link: u32) -> Result<Interface, Stop> {
        let found = self.world.interface(link).cloned().ok_or_else(|| {
            Stop::Over(
                Outcome::CannotTell,
                format!("it is routed to interface {link}, which is not known"),
            )
        })?;
        self.packet.oif = Some(found.clone());
        Ok(found)
    }

    /// The kernel's own decision: kind of destination, and the interface.
    fn route(&mut self, iif: Option<u32>) -> Result<(u8, u32), Stop> {
        let Some(to) = self.packet.destination() else {
            let why =
                "where it is routed depends on its destination, which is not known".to_owned();
            return Err(Stop::Over(Outcome::CannotTell, why));
        };
        let mark = number(&self.packet.mark.min(), true);
        let question = Question {
            from: self.packet.source(),
            to,
            iif,
            oif: None,
            mark: u32::try_from(mark).unwrap_or(0),
        };
        match self.world.route(&question)? {
            Route::To { kind, link, gateway, source } => {
                self.gateway = *gateway;
                self.preferred = *source;
                Ok((*kind, *link))
            }
            Route::None(why) => {
                self.steps.push(Step::Routing(format!("{to}: {why}")));
                Err(Stop::Over(Outcome::Dropped, format!("by routing: {why}")))
            }
        }
    }

    fn step_routing(&mut self, where_to: &str) {
        let to = self.packet.destination().map_or_else(|| "?".to_owned(), |to| to.to_string());
        let gateway = self.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
        self.steps.push(Step::Routing(format!("{to}: {where_to}{gateway}")));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.steps.push(Step::Note(text.to_owned()));
    }
}
