//! The chains of one hook, in the order the kernel runs them, and the rules of a chain.

use std::cmp::Reverse;

use super::super::{Chain, Family, Policy, Table, Verdict, hook};
use super::bits::{Bits, Truth};
use super::effect::End;
use super::machine::{Machine, Ruling};
use super::packet::State;
use super::{Met, Outcome, Point, Stage, Step, Stop, Walk};

/// NF_IP_PRI_CONNTRACK, _NAT_DST, _NAT_SRC: where these stand among the chains of a hook.
const CONNTRACK: i32 = -200;
const NAT_DST: i32 = -100;
const NAT_SRC: i32 = 100;
/// NFT_JUMP_STACK_SIZE.
const DEEPEST: usize = 16;
const DORMANT: u32 = 1;

/// A base chain and its table.
#[derive(Debug, Clone, Copy)]
struct Base<'a> {
    table: &'a Table,
    chain: &'a Chain,
    hook: &'a super::super::Hook,
    /// The kernel runs the later one first where priorities are equal.
    order: usize,
}

/// What a hook calls.
enum Call<'a> {
    Chain(Base<'a>),
    /// All nat chains, one after another until one of them decides, whatever their priorities among the others.
    Nat(Vec<Base<'a>>),
}

/// How a chain ends.
enum Flow {
    Accept,
    /// Its last rule passed, or `return`.
    End,
    Drop(String),
    Reject(String),
    Nat,
    Handed(String),
    Stuck(String),
}

impl<'a> Walk<'a> {
    /// All of a hook.
    pub(super) fn hook(&mut self, point: Point) -> Result<(), Stop> {
        self.point = point;
        for (priority, call) in self.calls() {
            if priority >= CONNTRACK {
                self.track()?;
            }
            match call {
                Call::Chain(base) => {
                    self.base(base)?;
                }
                Call::Nat(chains) => self.nat_hook(&chains)?,
            }
        }
        self.track()
    }

    fn calls(&self) -> Vec<(i32, Call<'a>)> {
        let (nat, other): (Vec<Base<'a>>, Vec<Base<'a>>) =
            self.bases().into_iter().partition(|base| base.hook.kind == "nat");
        let mut calls: Vec<(i32, Reverse<usize>, Call<'a>)> = other
            .into_iter()
            .map(|base| (base.hook.priority, Reverse(base.order), Call::Chain(base)))
            .collect();
        // Without a chain at this hook a connection is bound all the same, if there is nat at another.
        let hooks = [Point::Prerouting, Point::Input, Point::Output, Point::Postrouting];
        if hooks.contains(&self.point)
            && let Some(first) = self.first_nat()
        {
            let mut nat = nat;
            nat.sort_by_key(|base| (base.hook.priority, Reverse(base.order)));
            let priority = if matches!(self.point, Point::Prerouting | Point::Output) {
                NAT_DST
            } else {
                NAT_SRC
            };
            calls.push((priority, Reverse(first), Call::Nat(nat)));
        }
        calls.sort_by_key(|(priority, order, _)| (*priority, *order));
        calls.into_iter().map(|(priority, _, call)| (priority, call)).collect()
    }

    /// The base chains that see the packet at this hook.
    fn bases(&self) -> Vec<Base<'a>> {
        self.all().filter(|base| self.sees(base.table.family, base.hook)).collect()
    }

    /// Every base chain, numbered in the order of their creation as far as a dump shows it.
    fn all(&self) -> impl Iterator<Item = Base<'a>> {
        let ruleset = self.ruleset;
        let awake = ruleset.tables.iter().filter(|table| table.flags & DORMANT == 0);
        let chains = awake.flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
        chains.enumerate().filter_map(|(order, (table, chain))| {
            Some(Base { table, chain, hook: chain.hook.as_ref()?, order })
        })
    }

    fn sees(&self, family: Family, hook: &super::super::Hook) -> bool {
        let device = match self.point {
            Point::Ingress => self.packet.iif.as_ref(),
            Point::Egress => self.packet.oif.as_ref(),
            _ => None,
        };
        let on_device = || device.is_some_and(|device| hook.devices.contains(&device.name));
        let number = match (family, self.point) {
            (Family::NETDEV, Point::Ingress) => 0,
            (Family::NETDEV, Point::Egress) => 1,
            (Family::INET, Point::Ingress) => 5,
            (Family::ARP, Point::Input) => 0,
            (Family::ARP, Point::Output) => 1,
            (Family::ARP, _) | (_, Point::Ingress | Point::Egress) => return false,
            (_, Point::Prerouting) => hook::PREROUTING,
            (_, Point::Input) => hook::INPUT,
            (_, Point::Forward) => hook::FORWARD,
            (_, Point::Output) => hook::OUTPUT,
            (_, Point::Postrouting) => hook::POSTROUTING,
        };
        let ip = self.packet.family != Family::ARP;
        let right = match (self.family, family) {
            (Some(wanted), family) => wanted == family,
            (None, Family::INET) => ip,
            (None, Family::NETDEV) => on_device(),
            (None, family) => family == self.packet.family,
        };
        right
            && hook.number == number
            && (hook.devices.is_empty() || device.is_none() || on_device())
    }

    /// The first nat chain at any hook for such packets: it brought nat to all hooks. None when there is no nat, so
    /// that conntrack rewrites nothing.
    fn first_nat(&self) -> Option<usize> {
        let sees = |family: Family| family == Family::INET || family == self.packet.family;
        let mut chains =
            self.all().filter(|base| base.hook.kind == "nat" && sees(base.table.family));
        chains.next().map(|base| base.order)
    }

    /// The nat chains, for the first packet; what they did to it holds for all later ones.
    fn nat_hook(&mut self, chains: &[Base<'a>]) -> Result<(), Stop> {
        let destination = matches!(self.point, Point::Prerouting | Point::Output);
        let bound = if destination { self.destination_bound } else { self.source_bound };
        let connection = &self.packet.connection;
        let state = connection.state;
        if self.stage != Stage::Tracked || state == State::Invalid {
            return Ok(());
        }
        let translated =
            [true, false].into_iter().any(|side| self.is_translated(side) != Truth::No);
        if self.rewritten && translated {
            // It writes what it knows of the connection over what a rule has written.
            let why =
                "nat after a rule that wrote an address or port into the packet is not modelled";
            return Err(Stop::Over(Outcome::CannotTell, why.into()));
        }
        if bound {
            return Ok(());
        }
        if state != State::New {
            let translated = self.is_translated(destination != connection.reply);
            if translated == Truth::No || self.first_nat().is_none() {
                return Ok(());
            }
            if connection.reply {
                self.rewrite_back(destination);
                return Ok(());
            }
            self.note("conntrack repeats what nat did to the first packet; as the rules are now, that is:");
        }
        for base in chains {
            if self.base(*base)? {
                break;
            }
        }
        self.bind(destination);
        Ok(())
    }

    /// A reply gets back what the first packet had: nobody said what that was.
    fn rewrite_back(&mut self, destination: bool) {
        let what = if destination { "destination" } else { "source" };
        let len = self.packet.address(destination).len();
        self.packet.set_address(destination, &Bits::unknown(len));
        if self.packet.has_ports() {
            self.packet.set_port(destination, &Bits::unknown(2));
        }
        self.note(&format!(
            "conntrack rewrites the {what} of replies back to what the first packet had \
             (--ct-status without dnat and snat: it does not)"
        ));
    }

    /// A base chain to its end; true when it was NAT that ended it.
    fn base(&mut self, base: Base<'a>) -> Result<bool, Stop> {
        let Base { table, chain, hook, .. } = base;
        let before = self.packet.to_string();
        let mut rules = Vec::new();
        let flow = self.chain(table, chain, 0, &mut rules)?;
        let (result, stop) = match flow {
            Flow::Accept => ("accept".to_owned(), None),
            Flow::Nat => ("accept".to_owned(), None),
            Flow::End if hook.policy == Policy::Accept => ("policy accept".to_owned(), None),
            Flow::End => {
                let why =
                    format!("by the policy of {} {} {}", table.family, table.name, chain.name);
                ("policy drop".to_owned(), Some(Stop::Over(Outcome::Dropped, why)))
            }
            Flow::Handed(ref why) => {
                ("handed on".to_owned(), Some(Stop::Over(Outcome::Accepted, why.clone())))
            }
            // What goes on is the copy.
            Flow::Drop(ref why) if self.copied.is_some() => {
                let copy = self.copied.take().unwrap_or_default();
                let why = format!("{copy}; the packet itself is dropped {why}");
                ("drop".to_owned(), Some(Stop::Over(Outcome::Accepted, why)))
            }
            Flow::Drop(ref why) => {
                ("drop".to_owned(), Some(Stop::Over(Outcome::Dropped, why.clone())))
            }
            Flow::Reject(ref why) => {
                ("reject".to_owned(), Some(Stop::Over(Outcome::Rejected, why.clone())))
            }
            Flow::Stuck(ref why) => {
                ("cannot tell".to_owned(), Some(Stop::Over(Outcome::CannotTell, why.clone())))
            }
        };
        let after = self.packet.to_string();
        self.steps.push(Step::Chain {
            hook: self.point,
            family: table.family.to_string(),
            table: table.name.clone(),
            chain: chain.name.clone(),
            kind: hook.kind.clone(),
            priority: hook.priority,
            rules,
            result,
            packet: (after != before).then_some(after),
        });
        stop.map_or(Ok(matches!(flow, Flow::Nat)), Err)
    }

    fn chain(
        &mut self,
        table: &'a Table,
        chain: &'a Chain,
        depth: usize,
        met: &mut Vec<Met>,
    ) -> Result<Flow, Stop> {
        for rule in &chain.rules {
            let text = table.rule_text(rule);
            let Ruling { outcome, why, effects, end } =
                Machine::new(self, table).run(&rule.exprs)?;
            let place = format!("{} {} {}", table.family, table.name, chain.name);
            met.push(Met {
                depth,
                chain: chain.name.clone(),
                handle: rule.handle.0,
                rule: text.clone(),
                outcome,
                why: why.clone(),
                effects,
            });
            let (jump, target) = match (outcome, end) {
                (Truth::No, _) | (_, None) => continue,
                (Truth::Maybe, Some(_)) => {
                    let why = why.unwrap_or_default();
                    return Ok(Flow::Stuck(format!("{why}; in {place}, rule: {text}")));
                }
                (_, Some(End::Stuck(why))) => return Ok(Flow::Stuck(format!("{why}; in {place}"))),
                (_, Some(End::Nat(_))) => return Ok(Flow::Nat),
                (_, Some(End::Handed(to))) => {
                    return Ok(Flow::Handed(format!("{to}, by a rule of {place}: {text}")));
                }
                (_, Some(End::Reject(how))) => {
                    return Ok(Flow::Reject(format!("{how}, by a rule of {place}: {text}")));
                }
                (_, Some(End::Verdict(verdict))) => match verdict {
                    Verdict::Accept => return Ok(Flow::Accept),
                    Verdict::Drop => {
                        return Ok(Flow::Drop(format!("by a rule of {place}: {text}")));
                    }
                    Verdict::Return => return Ok(Flow::End),
                    Verdict::Jump(target) => (true, target),
                    Verdict::Goto(target) => (false, target),
                    Verdict::Continue | Verdict::Code(_) => continue,
                },
            };
            let Some(next) = table.chains.iter().find(|found| found.name == target) else {
                return Ok(Flow::Stuck(format!("there is no chain {target}; in {place}")));
            };
            if depth >= DEEPEST {
                return Ok(Flow::Stuck(format!("more than {DEEPEST} jumps; in {place}")));
            }
            match self.chain(table, next, depth + 1, met)? {
                Flow::End if jump => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::End)
    }
}
