//! One rule: statements to expressions, as nft itself sends them.
//!
//! A header field means something only in its protocol, so a rule first makes sure of that: `tcp dport 22` begins
//! with `meta l4proto tcp`. What the rule has already asked for is not asked again.

use nftables::expr::{BinaryOperation, Expression, NamedExpression};
use nftables::stmt::{Counter, Match, Operator, Statement};

use super::Why;
use super::field::{Field, IPV4, IPV6, Needs};
use super::kind::{Kind, beginning, what};
use crate::nft::build::{self, prefix_mask};
use crate::nft::expr::{CmpOp, Expr, Register, Verdict, meta};
use crate::nft::names::Type;
use crate::nft::{Family, Table};

const ETHERTYPE_IP: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IP6: u16 = 0x86dd;
/// NFT_OBJECT_COUNTER.
const COUNTER: u32 = 1;

/// A rule in the making.
#[derive(Debug)]
pub(crate) struct Draft<'t> {
    pub table: &'t mut Table,
    pub exprs: Vec<Expr>,
    /// What is known of the packet so far.
    pub network: Option<u8>,
    pub transport: Option<u8>,
    ether: bool,
    arp: bool,
}

impl<'t> Draft<'t> {
    pub fn new(table: &'t mut Table) -> Self {
        let network = match table.family {
            Family::IP => Some(IPV4),
            Family::IP6 => Some(IPV6),
            _ => None,
        };
        let ether = table.family == Family::BRIDGE;
        let arp = table.family == Family::ARP;
        Self { table, exprs: Vec::new(), network, transport: None, ether, arp }
    }

    pub fn finish(self) -> Vec<Expr> {
        self.exprs
    }

    pub fn statement(&mut self, statement: &Statement<'_>) -> Result<(), Why> {
        match statement {
            Statement::Match(wanted) => return self.matches(wanted),
            Statement::Accept(_) => self.verdict(Verdict::Accept),
            Statement::Drop(_) => self.verdict(Verdict::Drop),
            Statement::Continue(_) => self.verdict(Verdict::Continue),
            Statement::Return(_) => self.verdict(Verdict::Return),
            Statement::Jump(to) => self.verdict(Verdict::Jump(to.target.to_string())),
            Statement::Goto(to) => self.verdict(Verdict::Goto(to.target.to_string())),
            Statement::Counter(counter) => self.counter(counter)?,
            Statement::VerdictMap(map) => return self.verdict_map(&map.key, &map.data),
            Statement::Notrack => self.exprs.push(Expr::Notrack),
            other => return self.action(other),
        }
        Ok(())
    }

    fn verdict(&mut self, verdict: Verdict) {
        self.exprs.push(Expr::verdict(verdict));
    }

    fn counter(&mut self, counter: &Counter<'_>) -> Result<(), Why> {
        let number = |value: Option<usize>| u64::try_from(value.unwrap_or(0)).unwrap_or(u64::MAX);
        let expr = match counter {
            Counter::Named(name) => {
                if !self.table.objects.iter().any(|object| object.name == *name) {
                    return Err(format!("the counter {name} is not defined before"));
                }
                Expr::Objref { kind: COUNTER, name: name.to_string() }
            }
            Counter::Anonymous(None) => Expr::counter(),
            Counter::Anonymous(Some(at)) => {
                Expr::Counter { packets: number(at.packets), bytes: number(at.bytes) }
            }
        };
        self.exprs.push(expr);
        Ok(())
    }

    fn matches(&mut self, wanted: &Match<'_>) -> Result<(), Why> {
        let (op, implicit) = match wanted.op {
            Operator::EQ => (CmpOp::Eq, false),
            Operator::IN => (CmpOp::Eq, true),
            Operator::NEQ => (CmpOp::Neq, false),
            // The crate names these the other way round; what counts is how they are written.
            Operator::LT => (CmpOp::Gt, false),
            Operator::GT => (CmpOp::Lt, false),
            Operator::LEQ => (CmpOp::Lte, false),
            Operator::GEQ => (CmpOp::Gte, false),
            _ => return Err("an operator that compares nothing".into()),
        };
        let set = match &wanted.right {
            Expression::String(word) => word.starts_with('@'),
            Expression::Named(NamedExpression::Set(_)) => true,
            _ => false,
        };
        if set {
            return match op {
                CmpOp::Eq => self.in_set(&wanted.left, &wanted.right, false),
                CmpOp::Neq => self.in_set(&wanted.left, &wanted.right, true),
                _ => Err("a set compared by order".into()),
            };
        }
        if let Expression::BinaryOperation(operation) = &wanted.left {
            return self.masked(operation, op, &wanted.right);
        }
        let truth = matches!(wanted.right, Expression::Boolean(_));
        let field = field_of(&wanted.left, truth)?;
        self.need(field.needs)?;
        if let Some((bits, shift)) = field.bits.clone() {
            return self.some_bits(&field, bits, shift, op, &wanted.right);
        }
        if field.kind.is_bits() && implicit {
            return self.any_bit(&field, &wanted.right);
        }
        self.compare(&field, op, &wanted.right)
    }

    fn compare(&mut self, field: &Field, op: CmpOp, right: &Expression<'_>) -> Result<(), Why> {
        let kind = field.kind;
        if let (Type::IfName, Expression::String(word)) = (kind.kind, right)
            && let Some(start) = beginning(word)
        {
            return self.interfaces(field, op, start);
        }
        let span = kind.span(right)?;
        if let Expression::Named(NamedExpression::Prefix(prefix)) = right {
            return self.prefix(field, op, span.low, prefix.len);
        }
        self.load(field, 1);
        match (op, !matches!(right, Expression::Range(_))) {
            (CmpOp::Eq | CmpOp::Neq, true) => {
                if op == CmpOp::Eq {
                    self.learn(&field.load, &span.low);
                }
                self.cmp(op, kind.stored(span.low));
            }
            (_, true) => {
                self.in_network_order(kind, 1);
                self.cmp(op, span.low);
            }
            (CmpOp::Eq, false) => {
                self.in_network_order(kind, 1);
                self.cmp(CmpOp::Gte, span.low);
                self.cmp(CmpOp::Lte, span.high);
            }
            (CmpOp::Neq, false) => {
                self.in_network_order(kind, 1);
                self.exprs.push(Expr::Range {
                    sreg: 1,
                    inverted: true,
                    from: span.low,
                    to: span.high,
                });
            }
            (_, false) => return Err("a range compared by order".into()),
        }
        Ok(())
    }

    /// `"veth*"`: only the first octets are compared.
    fn interfaces(&mut self, field: &Field, op: CmpOp, start: &str) -> Result<(), Why> {
        if start.is_empty() || start.len() > 15 || start.contains(['\\', '*', '\0']) {
            return Err(format!("{start:?} and * is no pattern of interface names"));
        }
        if !matches!(op, CmpOp::Eq | CmpOp::Neq) {
            return Err("interface names compared by order".into());
        }
        self.load(field, 1);
        self.cmp(op, start.as_bytes().to_vec());
        Ok(())
    }

    /// Whole octets are loaded alone; else the rest is masked away.
    fn prefix(&mut self, field: &Field, op: CmpOp, low: Vec<u8>, length: u32) -> Result<(), Why> {
        if !matches!(op, CmpOp::Eq | CmpOp::Neq) {
            return Err("a prefix compared by order".into());
        }
        let octets = usize::try_from(length / 8).unwrap_or(0);
        if let Expr::Payload { base, offset, .. } = field.load
            && length.is_multiple_of(8)
            && length > 0
        {
            let load = Expr::Payload { base, offset, len: length / 8, dreg: 1 };
            self.exprs.push(load);
            self.cmp(op, low.get(..octets).unwrap_or(&low).to_vec());
            return Ok(());
        }
        let mask = prefix_mask(low.len(), length).ok_or("a prefix longer than the field")?;
        self.load(field, 1);
        self.and(field.kind.stored(mask));
        self.cmp(op, field.kind.stored(low));
        Ok(())
    }

    /// `ct state established,related`: one of the bits.
    fn any_bit(&mut self, field: &Field, right: &Expression<'_>) -> Result<(), Why> {
        let bits = field.kind.stored(field.kind.value(right)?);
        self.exprs.extend(build::any_bit(field.load_into(1), bits));
        Ok(())
    }

    /// A field that is part of what is loaded.
    fn some_bits(
        &mut self,
        field: &Field,
        bits: Vec<u8>,
        shift: u32,
        op: CmpOp,
        right: &Expression<'_>,
    ) -> Result<(), Why> {
        let value = field
            .kind
            .value(right)?
            .iter()
            .fold(0u64, |value, octet| value << 8 | u64::from(*octet));
        let shifted = (value << shift).to_be_bytes();
        let low = shifted.len().saturating_sub(bits.len());
        self.load(field, 1);
        self.and(bits);
        self.cmp(op, shifted.get(low..).unwrap_or(&[]).to_vec());
        Ok(())
    }

    /// `tcp flags & (syn | ack) == syn`
    fn masked(
        &mut self,
        operation: &BinaryOperation<'_>,
        op: CmpOp,
        right: &Expression<'_>,
    ) -> Result<(), Why> {
        let BinaryOperation::AND(left, mask) = operation else {
            return Err("an operation other than & on what is compared".into());
        };
        let field = field_of(left, false)?;
        if field.bits.is_some() || !matches!(op, CmpOp::Eq | CmpOp::Neq) {
            return Err("& on this field, or compared by order".into());
        }
        let (mask, value) = (field.kind.value(mask)?, field.kind.value(right)?);
        self.need(field.needs)?;
        self.load(&field, 1);
        self.and(field.kind.stored(mask));
        self.cmp(op, field.kind.stored(value));
        Ok(())
    }

    pub fn load(&mut self, field: &Field, register: Register) {
        self.exprs.push(field.load_into(register));
    }

    fn cmp(&mut self, op: CmpOp, data: Vec<u8>) {
        self.exprs.push(build::cmp(op, data));
    }

    fn and(&mut self, mask: Vec<u8>) {
        self.exprs.push(build::and(mask));
    }

    /// Numbers compare as octets in network order only.
    pub(crate) fn in_network_order(&mut self, kind: Kind, register: Register) {
        if kind.is_host() {
            let len = u32::try_from(kind.octets()).unwrap_or(0);
            self.exprs.push(Expr::Byteorder {
                sreg: register,
                dreg: register,
                hton: true,
                len,
                size: len,
            });
        }
    }

    /// Makes sure that the packet is of the protocol a field belongs to.
    pub fn need(&mut self, needs: Needs) -> Result<(), Why> {
        match needs {
            Needs::Nothing => Ok(()),
            Needs::Ether => self.need_ether(),
            Needs::Network(family) => self.need_network(family),
            Needs::Arp => self.need_arp(),
            Needs::Transport(protocol) => self.need_transport(protocol),
            Needs::Icmp { protocol, family } => {
                self.need_network(family)?;
                self.need_transport(protocol)
            }
        }
    }

    fn need_ether(&mut self) -> Result<(), Why> {
        if !self.ether {
            self.ether = true;
            let ether = Kind::from(Type::IfType).stored(vec![0, 1]);
            self.exprs.extend(build::equal(build::load_meta(meta::IIFTYPE), ether));
        }
        Ok(())
    }

    pub(crate) fn need_network(&mut self, family: u8) -> Result<(), Why> {
        match self.network {
            Some(known) if known == family => return Ok(()),
            Some(_) => return Err("IPv4 and IPv6 in one rule".into()),
            None if self.arp => return Err("IP where there is ARP".into()),
            None => {}
        }
        self.network = Some(family);
        match self.table.family {
            Family::INET => {
                self.exprs.extend(build::meta_nfproto(family));
            }
            _ => self.ether_type(if family == IPV4 { ETHERTYPE_IP } else { ETHERTYPE_IP6 }),
        }
        Ok(())
    }

    fn need_arp(&mut self) -> Result<(), Why> {
        if self.arp {
            return Ok(());
        }
        if self.network.is_some() || !matches!(self.table.family, Family::BRIDGE | Family::NETDEV) {
            return Err("ARP where there is IP".into());
        }
        self.arp = true;
        self.ether_type(ETHERTYPE_ARP);
        Ok(())
    }

    fn ether_type(&mut self, number: u16) {
        self.exprs
            .extend(build::equal(build::load_meta(meta::PROTOCOL), number.to_be_bytes().to_vec()));
    }

    pub(crate) fn need_transport(&mut self, protocol: u8) -> Result<(), Why> {
        match self.transport {
            Some(known) if known == protocol => return Ok(()),
            Some(_) => return Err("two transport protocols in one rule".into()),
            None => {}
        }
        self.transport = Some(protocol);
        self.exprs.extend(build::meta_l4proto(protocol));
        Ok(())
    }

    /// What a comparison says about the packet.
    fn learn(&mut self, load: &Expr, value: &[u8]) {
        let number = value.iter().fold(0u32, |number, octet| number << 8 | u32::from(*octet));
        let octet = u8::try_from(number).ok();
        let ether_type = u32::from(ETHERTYPE_IP);
        match *load {
            Expr::Meta { key: meta::NFPROTO, .. } => self.network = octet,
            Expr::Meta { key: meta::L4PROTO, .. } => self.transport = octet,
            Expr::Meta { key: meta::IIFTYPE, .. } => self.ether |= number == 1,
            // Of IP itself nft asks in other words, where a table sees nothing but IP.
            Expr::Meta { key: meta::PROTOCOL, .. }
                if !matches!(self.table.family, Family::BRIDGE | Family::NETDEV) => {}
            Expr::Meta { key: meta::PROTOCOL, .. }
            | Expr::Payload { base: 0, offset: 12, len: 2, .. } => match number {
                number if number == ether_type => self.network = Some(IPV4),
                number if number == u32::from(ETHERTYPE_IP6) => self.network = Some(IPV6),
                number if number == u32::from(ETHERTYPE_ARP) => self.arp = true,
                _ => {}
            },
            Expr::Payload { base: 1, offset: 9, len: 1, .. } if self.network == Some(IPV4) => {
                self.transport = octet;
            }
            Expr::Payload { base: 1, offset: 6, len: 1, .. } if self.network == Some(IPV6) => {
                self.transport = octet;
            }
            _ => {}
        }
    }
}

/// The field an expression names; `truth`: it is compared with true or false.
pub(crate) fn field_of(expression: &Expression<'_>, truth: bool) -> Result<Field, Why> {
    match expression {
        Expression::Named(NamedExpression::Payload(payload)) => Field::payload(payload),
        Expression::Named(NamedExpression::Meta(meta)) => Field::meta(meta.key),
        Expression::Named(NamedExpression::CT(ct)) => Field::ct(ct),
        Expression::Named(NamedExpression::Fib(fib)) => Field::fib(fib, truth),
        other => Err(format!("{} as what is looked at", what(other))),
    }
}
