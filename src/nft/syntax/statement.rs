//! Statements that do something: what the registers they read were given, in their own types.

use super::super::expr::{Data, Expr, NatKind, Register, Verdict, base};
use super::super::names::words::NETMAP;
use super::super::names::{Order, Type};
use super::super::{DataType, Family, Rule};
use super::field::{self, Field};
use super::rebuild::{Rebuild, bits_of, raw_payload, shape, typed_as};
use super::relation::octets_between;
use super::{Constant, InPlace, Join, Nat, Statement, Update, Value, ones};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// NFT_JUMP_STACK_SIZE: the kernel takes no rules that jump deeper.
const MAX_DEPTH: usize = 16;

impl<'a> Rebuild<'a> {
    pub(super) fn action(&mut self, expr: &'a Expr) {
        let statement = match expr {
            Expr::Immediate { data: Data::Verdict(verdict), .. } => {
                self.in_place(verdict).unwrap_or(Statement::Verdict(verdict))
            }
            Expr::MetaSet { key, sreg } => match field::meta(*key) {
                Some(field) => self.mangle(field, *sreg),
                None => Statement::Plain(expr),
            },
            Expr::CtSet { key, sreg, direction } => {
                match field::ct(*key, *direction, self.table.family == Family::IP6) {
                    Some(field) => self.mangle(field, *sreg),
                    None => Statement::Plain(expr),
                }
            }
            Expr::PayloadSet { base, offset, len, sreg, .. } => {
                self.mangle_payload(*base, offset.saturating_mul(8), len.saturating_mul(8), *sreg)
            }
            Expr::ExthdrSet { field, sreg } => self.mangle(field::extension(*field, None), *sreg),
            Expr::ExthdrReset { field } => Statement::Reset(field::extension(*field, None)),
            Expr::Nat { .. } => self.nat(expr),
            Expr::Masquerade { port, port_max, flags } => {
                self.port_nat("masquerade", *port, *port_max, *flags)
            }
            Expr::Redirect { port, port_max, flags } => {
                self.port_nat("redirect", *port, *port_max, *flags)
            }
            Expr::Reject { kind, .. } => self.reject(expr, *kind),
            Expr::Tproxy { family, addr, port } => {
                let ip6 = *family == u32::from(AF_INET6);
                let addr = addr.map(|register| self.given(register, address(ip6), Order::Network));
                let port =
                    port.map(|register| self.given(register, Type::InetService, Order::Network));
                let family = self.said(u8::try_from(*family).unwrap_or(0));
                Statement::Tproxy { family, addr, port }
            }
            Expr::Queue { from, total, flags, sreg } => self.queue(*from, *total, *flags, *sreg),
            Expr::Dup { addr, device } => {
                let ip6 = self.table.family == Family::IP6;
                let addr = addr.map(|register| self.given(register, address(ip6), Order::Network));
                let device =
                    device.map(|register| self.given(register, Type::IfIndex, Order::Host));
                Statement::Dup { addr, device }
            }
            Expr::Fwd { device, addr, family } => {
                let family = family
                    .and_then(|family| u8::try_from(family).ok())
                    .filter(|family| *family != 0);
                let ip6 = family == Some(AF_INET6);
                let addr = addr.map(|register| self.given(register, address(ip6), Order::Network));
                let device = self.given(*device, Type::IfIndex, Order::Host);
                Statement::Fwd { family, addr, device }
            }
            Expr::Dynset { .. } => self.update(expr),
            Expr::ObjrefMap { set, sreg } => self.object_map(set, *sreg),
            Expr::Xt { .. } => {
                Statement::Xt { expr, transport: self.transport.map(|header| header.name) }
            }
            plain => Statement::Plain(plain),
        };
        self.push(statement);
    }

    /// The chain that is jumped to, when it has no name.
    fn in_place(&self, verdict: &'a Verdict) -> Option<Statement<'a>> {
        let (Verdict::Jump(name) | Verdict::Goto(name)) = verdict else { return None };
        let chains = &self.table.chains;
        let chain = chains.iter().find(|chain| chain.is_bound() && chain.name == *name)?;
        if self.depth >= MAX_DEPTH {
            return None;
        }
        let rule = |rule: &'a Rule| {
            let inner = Self::within(self.table, self.depth + 1);
            InPlace { rule, statements: inner.rule(rule) }
        };
        Some(Statement::InPlace { verdict, rules: chain.rules.iter().map(rule).collect() })
    }

    /// What a register was given, as a value of this type.
    fn given(&mut self, register: Register, kind: Type, order: Order) -> Value<'a> {
        let value = self.word(register);
        self.typed(value, kind, order)
    }

    fn mangle(&mut self, field: Field<'a>, sreg: Register) -> Statement<'a> {
        let value = match (self.given(sreg, field.kind, field.order), field.kind) {
            (Value::Flags(flags, _), _) => Value::Flags(flags, Join::List),
            (value, _) => value,
        };
        Statement::Mangle(Value::Field(field), value)
    }

    /// Bits of an octet or two are set by reading them, masking, and writing them back.
    fn mangle_payload(
        &mut self,
        base: u32,
        offset: u32,
        bits: u32,
        sreg: Register,
    ) -> Statement<'a> {
        let value = self.word(sreg);
        let Value::Field(whole) = raw_payload(base, offset, bits) else {
            return Statement::Mangle(raw_payload(base, offset, bits), value);
        };
        if let Some((field, layer, number)) = self.part_written(&whole, &value) {
            let kind = field.kind;
            let left = Value::Field(field);
            self.used(layer, &left);
            let bits = bits_of(&left);
            return Statement::Mangle(left, Value::Constant(Constant { number, bits, kind }));
        }
        let left = self.resolve(Value::Field(whole));
        let (kind, order) = shape(&left);
        let value = self.typed(value, kind, order);
        Statement::Mangle(left, value)
    }

    /// Which field the bits that are not kept are, and what they become.
    fn part_written(&self, whole: &Field<'a>, value: &Value<'a>) -> Option<(Field<'a>, u32, u128)> {
        let (kept, set) = match value {
            Value::Binary("|" | "^", and, set) => (and.as_ref(), constant(set)?.number),
            and => (and, 0),
        };
        let (read, mask) = match kept {
            Value::Binary("&", read, mask) => (read.as_ref(), constant(mask)?.number),
            all => (all, ones(whole.bits)),
        };
        let Value::Field(read) = read else { return None };
        if read.source != whole.source {
            return None;
        }
        let written = !mask & ones(whole.bits);
        let (field, layer, shift) = self.narrow(whole, written | set)?;
        Some((field, layer, set >> shift))
    }

    /// The family is said where the table does not say it.
    fn said(&self, family: u8) -> Option<u8> {
        let known = matches!(self.table.family, Family::IP | Family::IP6);
        (!known && family != 0).then_some(family)
    }

    fn nat(&mut self, expr: &'a Expr) -> Statement<'a> {
        let Expr::Nat { kind, family, addr, addr_max, port, port_max, flags } = expr else {
            return Statement::Plain(expr);
        };
        let verb = match kind {
            NatKind::Snat => "snat",
            NatKind::Dnat => "dnat",
        };
        let kind = address(*family == u32::from(AF_INET6));
        // A map may give the address with its port, or a first and a last address.
        let given = addr.and_then(|addr| self.map_gives(addr));
        let (with_port, with_last) = given.unwrap_or((false, false));
        let addr_max = addr_max.filter(|_| !with_last);
        let port = port.filter(|_| !with_port);
        if port.is_some() {
            self.keep_transport();
        }
        let addr = addr.map(|addr| self.bounds(addr, addr_max, kind));
        let port = port.map(|port| self.bounds(port, *port_max, Type::InetService));
        let mapped = matches!(addr, Some(Value::Map(..)));
        let said = if mapped && flags & NETMAP != 0 || with_port || with_last {
            Some(u8::try_from(*family).unwrap_or(0))
        } else {
            addr.as_ref().and_then(|_| self.said(u8::try_from(*family).unwrap_or(0)))
        };
        Statement::Nat(Nat { verb, family: said, addr, port, flags: *flags })
    }

    fn port_nat(
        &mut self,
        verb: &'static str,
        port: Option<Register>,
        max: Option<Register>,
        flags: u32,
    ) -> Statement<'a> {
        if port.is_some() {
            self.keep_transport();
        }
        let port = port.map(|port| self.bounds(port, max, Type::InetService));
        Statement::Nat(Nat { verb, family: None, addr: None, port, flags })
    }

    /// Whether the map that fills a register gives several parts, or intervals.
    fn map_gives(&self, register: Register) -> Option<(bool, bool)> {
        let Value::Map(_, map) = self.word(register) else { return None };
        let data = match *map {
            Value::Elements(elements) => (elements.data.len() > 1, elements.has_data_intervals()),
            Value::Named(name) => {
                let elements = super::elements_of(self.set(name)?);
                (elements.data.len() > 1, elements.has_data_intervals())
            }
            _ => return None,
        };
        Some(data)
    }

    fn bounds(&mut self, from: Register, to: Option<Register>, kind: Type) -> Value<'a> {
        match (self.word(from), to.map(|to| self.word(to))) {
            (Value::Long(from), Some(Value::Long(to))) => {
                octets_between((kind, Order::Network), from, to)
            }
            _ => self.given(from, kind, Order::Network),
        }
    }

    /// What an ICMP code is of follows from the network's protocol; the match on it is then no longer told.
    fn reject(&mut self, expr: &'a Expr, kind: u32) -> Statement<'a> {
        let by_code = kind == 0;
        let family = match (self.table.family, self.network.map(|header| header.name)) {
            (Family::IP, _) | (_, Some("ip")) => Some(AF_INET),
            (Family::IP6, _) | (_, Some("ip6")) => Some(AF_INET6),
            _ => None,
        };
        if matches!(expr, Expr::Reject { kind: 1, .. })
            && matches!(self.table.family, Family::IP | Family::IP6)
        {
            self.used(base::TRANSPORT, &Value::Any);
        }
        if by_code && family.is_some() && !matches!(self.table.family, Family::IP | Family::IP6) {
            self.used(base::NETWORK, &Value::Any);
        }
        Statement::Reject { expr, family }
    }

    fn queue(
        &mut self,
        from: u16,
        total: u16,
        flags: u16,
        sreg: Option<Register>,
    ) -> Statement<'a> {
        let number =
            |number: u16| Constant { number: u128::from(number), bits: 16, kind: Type::Integer };
        let to = match sreg {
            Some(register) => Some(self.given(register, Type::Integer, Order::Host)),
            None if from == 0 && total <= 1 && flags == 0 => None,
            None if total > 1 => {
                Some(Value::Range(number(from), number(from.saturating_add(total - 1))))
            }
            None => Some(Value::Constant(number(from))),
        };
        Statement::Queue { to, flags }
    }

    fn update(&mut self, expr: &'a Expr) -> Statement<'a> {
        let Expr::Dynset { set, operation, key, data, timeout, exprs, .. } = expr else {
            return Statement::Plain(expr);
        };
        let found = self.set(set);
        let words = self.words(*key, found.map_or(4, |set| set.key_len));
        let words = typed_as(words, &found.map(super::key_parts).unwrap_or_default());
        let value = self.resolve_key(words).0;
        let data = data.map(|register| {
            let len = match found.and_then(|set| set.data) {
                Some(DataType::Value { len, .. }) => len,
                _ => 4,
            };
            let words = self.words(register, len);
            let words =
                typed_as(words, &found.map(|set| super::elements_of(set).data).unwrap_or_default());
            self.resolve_key(words).0
        });
        let meter = found.filter(|set| set.is_anonymous()).map(|set| set.size);
        Statement::Update(Update {
            operation: *operation,
            name: set,
            meter,
            key: value,
            data,
            timeout: timeout.filter(|timeout| *timeout != 0),
            exprs,
        })
    }

    fn object_map(&mut self, name: &'a str, sreg: Register) -> Statement<'a> {
        let found = self.set(name);
        let (key, set) = self.looked_up(name, found, sreg);
        let kind = found.and_then(|set| set.object).unwrap_or(0);
        Statement::ObjectMap(kind, Value::Map(Box::new(key), Box::new(set)))
    }
}

fn address(ip6: bool) -> Type {
    if ip6 { Type::Ipv6 } else { Type::Ipv4 }
}

fn constant(value: &Value<'_>) -> Option<Constant> {
    match value {
        Value::Constant(constant) | Value::Flags(constant, _) => Some(*constant),
        _ => None,
    }
}
