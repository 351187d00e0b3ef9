//! Statements that do something: NAT, log, limit, reject, and setting marks and fields.

use nftables::expr::{Expression, NamedExpression, RTKey};
use nftables::stmt::{Limit, Log, LogFlag, Mangle, NAT, NATFamily, Reject, RejectType, Statement};
use nftables::types::RejectCode;

use super::Why;
use super::field::{Field, IPV4, IPV6, TCP, bits_of, word_of};
use super::kind::{Kind, Span, what};
use super::rule::{Draft, field_of};
use crate::nft::Family;
use crate::nft::build::immediate;
use crate::nft::expr::{Expr, Extension, NatKind, Register, base, ct, meta};
use crate::nft::names::Type;
use crate::nft::names::words::{
    BYTE_UNITS, LOG_ALL, LOG_FLAGS, NAT_FLAGS, TIME_UNITS, WARN, number,
};

/// NFT_REJECT_ICMP_UNREACH, _TCP_RST, _ICMPX_UNREACH.
const REJECT_ICMP: u32 = 0;
const REJECT_RESET: u32 = 1;
const REJECT_ICMPX: u32 = 2;
/// What the kernel fills in: NFT_LIMIT_PKT_BURST_DEFAULT.
const BURST: u32 = 5;
/// NFT_RT_TCPMSS, and the option in TCP.
const RT_TCPMSS: u32 = 3;
const MAXSEG: Extension = Extension { space: 1, kind: 2, offset: 2, len: 2, flags: 0 };
/// NFT_PAYLOAD_CSUM_INET; NFT_PAYLOAD_L4CSUM_PSEUDOHDR.
const CHECKSUM_INET: u32 = 1;
const PSEUDO_HEADER: u32 = 1;

impl Draft<'_> {
    pub fn action(&mut self, statement: &Statement<'_>) -> Result<(), Why> {
        match statement {
            Statement::SNAT(Some(nat)) => self.nat(NatKind::Snat, nat),
            Statement::DNAT(Some(nat)) => self.nat(NatKind::Dnat, nat),
            Statement::Masquerade(nat) => self.masquerade(nat.as_ref(), false),
            Statement::Redirect(nat) => self.masquerade(nat.as_ref(), true),
            Statement::Reject(reject) => self.reject(reject.as_ref()),
            Statement::Log(log) => self.log(log.as_ref()),
            Statement::Limit(limit) => self.limit(limit),
            Statement::Mangle(mangle) => self.mangle(mangle),
            _ => Err("this statement is not supported".into()),
        }
    }

    fn nat(&mut self, kind: NatKind, nat: &NAT<'_>) -> Result<(), Why> {
        let family = self.nat_family(nat)?;
        let address = Kind::from(if family == IPV4 { Type::Ipv4 } else { Type::Ipv6 });
        let (mut addr, mut addr_max, mut port, mut port_max) = (None, None, None, None);
        match &nat.addr {
            None => {}
            Some(Expression::Named(NamedExpression::Map(map))) => {
                self.mapped(&map.key, &map.data, address)?;
                addr = Some(1);
            }
            Some(Expression::Named(NamedExpression::Prefix(_))) => {
                return Err("a prefix to translate to is not supported".into());
            }
            Some(single) => (addr, addr_max) = self.bounds(address.span(single)?, 1),
        }
        if let Some(wanted) = &nat.port {
            let free = addr_max.or(addr).unwrap_or(0) + 1;
            (port, port_max) = self.bounds(Kind::from(Type::InetService).span(wanted)?, free);
        }
        if addr.is_none() && port.is_none() {
            return Err("neither an address nor a port to translate to".into());
        }
        let flags = nat_flags(nat)?;
        self.exprs.push(Expr::Nat {
            kind,
            family: u32::from(family),
            addr,
            addr_max,
            port,
            port_max,
            flags,
        });
        Ok(())
    }

    fn nat_family(&self, nat: &NAT<'_>) -> Result<u8, Why> {
        let said = match (nat.family, &nat.addr) {
            (Some(NATFamily::IP), _) => Some(IPV4),
            (Some(NATFamily::IP6), _) => Some(IPV6),
            (None, Some(addr)) if Kind::from(Type::Ipv4).span(addr).is_ok() => Some(IPV4),
            (None, Some(addr)) if Kind::from(Type::Ipv6).span(addr).is_ok() => Some(IPV6),
            (None, _) => None,
        };
        match (said, self.network) {
            (Some(said), Some(known)) if said != known => {
                Err("an address of the other family".into())
            }
            (said, known) => {
                said.or(known).ok_or_else(|| "family (ip or ip6) must be said here".into())
            }
        }
    }

    fn masquerade(&mut self, nat: Option<&NAT<'_>>, redirect: bool) -> Result<(), Why> {
        let (mut port, mut port_max, mut flags) = (None, None, 0);
        if let Some(nat) = nat {
            if nat.addr.is_some() || nat.family.is_some() {
                return Err("an address here".into());
            }
            flags = nat_flags(nat)?;
            if let Some(wanted) = &nat.port {
                (port, port_max) = self.bounds(Kind::from(Type::InetService).span(wanted)?, 1);
            }
        }
        self.exprs.push(if redirect {
            Expr::Redirect { port, port_max, flags }
        } else {
            Expr::Masquerade { port, port_max, flags }
        });
        Ok(())
    }

    /// Both ends in registers from this one on; the second only when it is another.
    fn bounds(&mut self, span: Span, register: Register) -> (Option<Register>, Option<Register>) {
        let one = span.is_one();
        self.immediate(register, span.low);
        if one {
            return (Some(register), None);
        }
        self.immediate(register + 1, span.high);
        (Some(register), Some(register + 1))
    }

    fn immediate(&mut self, dreg: Register, value: Vec<u8>) {
        self.exprs.push(immediate(dreg, value));
    }

    fn reject(&mut self, reject: Option<&Reject>) -> Result<(), Why> {
        let (kind, code) = reject.map_or((None, None), |reject| (reject._type, reject.expr));
        let several = !matches!(self.table.family, Family::IP | Family::IP6);
        let kind = match kind {
            Some(kind) => kind,
            None if code.is_some() => return Err("a code without its type".into()),
            None if several => RejectType::ICMPX,
            None if self.table.family == Family::IP => RejectType::ICMP,
            None => RejectType::ICMPv6,
        };
        let (kind, code) = match kind {
            RejectType::TCPReset => {
                self.need_transport(TCP)?;
                (REJECT_RESET, None)
            }
            RejectType::ICMPX if several => (REJECT_ICMPX, reject_code(code, Type::IcmpxCode)?),
            RejectType::ICMPX => return Err("icmpx in a table of one family only".into()),
            RejectType::ICMP => {
                self.need_network(IPV4)?;
                (REJECT_ICMP, reject_code(code, Type::IcmpCode)?)
            }
            RejectType::ICMPv6 => {
                self.need_network(IPV6)?;
                (REJECT_ICMP, reject_code(code, Type::Icmpv6Code)?)
            }
        };
        self.exprs.push(Expr::Reject { kind, code });
        Ok(())
    }

    fn log(&mut self, log: Option<&Log<'_>>) -> Result<(), Why> {
        let none = Log::new(None);
        let log = log.unwrap_or(&none);
        let level = log.level.map(|level| level as u32);
        let named = log.flags.iter().flatten();
        let all = if named.clone().any(|flag| *flag == LogFlag::All) { LOG_ALL } else { 0 };
        let flags = bits_of(LOG_FLAGS, named.filter(|flag| **flag != LogFlag::All))? | all;
        let prefix = log.prefix.as_ref().map(ToString::to_string);
        if prefix.as_ref().is_some_and(|prefix| prefix.len() > 127 || prefix.contains('\0')) {
            return Err("a prefix of more than 127 octets".into());
        }
        let short = |value: Option<u32>| {
            value
                .map(u16::try_from)
                .transpose()
                .map_err(|_| "a number of more than 16 bits".to_owned())
        };
        let (group, threshold) = (short(log.group)?, short(log.queue_threshold)?);
        if group.is_some() && (level.is_some() || flags != 0) {
            return Err("a group together with a level or flags".into());
        }
        if group.is_none() && (log.snaplen.is_some() || threshold.is_some()) {
            return Err("snaplen or queue-threshold without a group".into());
        }
        self.exprs.push(Expr::Log {
            prefix,
            group,
            snaplen: log.snaplen,
            threshold: threshold.filter(|threshold| *threshold != 0),
            level: if group.is_some() { None } else { Some(level.unwrap_or(WARN)) },
            flags: Some(flags).filter(|flags| *flags != 0),
        });
        Ok(())
    }

    fn limit(&mut self, limit: &Limit<'_>) -> Result<(), Why> {
        let unit = |word: &str| match word {
            "packets" => Some(None),
            word => number(BYTE_UNITS, word).map(|octets| Some(u64::from(octets))),
        };
        let rate_unit = limit.rate_unit.as_deref().unwrap_or("packets");
        let octets = unit(rate_unit).ok_or_else(|| format!("the unit {rate_unit}"))?;
        let per = limit.per.as_deref().unwrap_or("second");
        let unit_secs = number(TIME_UNITS, per).ok_or_else(|| format!("a rate per {per}"))?.into();
        let burst = match (octets, limit.burst) {
            (None, None | Some(0)) => BURST,
            (None, Some(burst)) => burst,
            (Some(_), burst) => {
                let word = limit.burst_unit.as_deref().unwrap_or("bytes");
                let factor = unit(word).flatten().ok_or_else(|| format!("a burst in {word}"))?;
                u32::try_from(u64::from(burst.unwrap_or(0)) * factor)
                    .map_err(|_| "a burst past 4 GiB")?
            }
        };
        self.exprs.push(Expr::Limit {
            rate: u64::from(limit.rate) * octets.unwrap_or(1),
            unit_secs,
            burst,
            by_bytes: octets.is_some(),
            over: limit.inv.unwrap_or(false),
        });
        Ok(())
    }

    fn mangle(&mut self, mangle: &Mangle<'_>) -> Result<(), Why> {
        if let Expression::Named(NamedExpression::TcpOption(option)) = &mangle.key {
            if (option.name.as_ref(), option.field.as_deref()) != ("maxseg", Some("size")) {
                return Err("a TCP option other than the size of maxseg".into());
            }
            return self.segment_size(&mangle.value);
        }
        let field = field_of(&mangle.key, false)?;
        if field.bits.is_some() {
            return Err("setting a field that is not of whole octets is not supported".into());
        }
        self.need(field.needs)?;
        self.value(&field, &mangle.value)?;
        let expr = match field.load {
            Expr::Meta {
                key: key @ (meta::MARK | meta::PKTTYPE | meta::NFTRACE | meta::PRIORITY),
                ..
            } => Expr::MetaSet { key, sreg: 1 },
            Expr::Ct { key: ct::MARK, direction: None, .. } => {
                Expr::CtSet { key: ct::MARK, sreg: 1, direction: None }
            }
            Expr::Payload { base, offset, len, .. } => self.payload_set(base, offset, len)?,
            _ => return Err("this cannot be set".into()),
        };
        self.exprs.push(expr);
        Ok(())
    }

    /// What a field is set to, in register 1.
    fn value(&mut self, field: &Field, value: &Expression<'_>) -> Result<(), Why> {
        match value {
            Expression::Named(NamedExpression::Map(map)) => {
                self.mapped(&map.key, &map.data, field.kind)
            }
            Expression::Named(NamedExpression::Meta(_) | NamedExpression::CT(_)) => {
                let from = field_of(value, false)?;
                if from.kind != field.kind {
                    return Err("a value of another type".into());
                }
                self.load(&from, 1);
                Ok(())
            }
            constant => {
                let value = field.kind.value(constant)?;
                self.immediate(1, field.kind.stored(value));
                Ok(())
            }
        }
    }

    /// `tcp option maxseg size set …`
    fn segment_size(&mut self, value: &Expression<'_>) -> Result<(), Why> {
        match value {
            Expression::Named(NamedExpression::RT(rt)) if rt.key == RTKey::MTU => {
                self.exprs.push(Expr::Rt { key: RT_TCPMSS, dreg: 1 });
                self.exprs.push(Expr::Byteorder { sreg: 1, dreg: 1, hton: true, len: 2, size: 2 });
            }
            Expression::Number(_) => {
                let size = Kind::from(Type::InetService).value(value)?;
                self.immediate(1, size);
            }
            other => return Err(format!("{} where a number or rt mtu is wanted", what(other))),
        }
        self.exprs.push(Expr::ExthdrSet { field: MAXSEG, sreg: 1 });
        Ok(())
    }

    /// The checksum that covers the field is mended by the kernel, in steps of 16 bits; that of the transport, too,
    /// which covers lengths, protocol and addresses.
    fn payload_set(&self, base: u32, offset: u32, len: u32) -> Result<Expr, Why> {
        let odd = !offset.is_multiple_of(2) || !len.is_multiple_of(2);
        let (csum_type, csum_offset, csum_flags) = match (base, self.network, self.transport) {
            (base::LINK, ..) => (0, 0, 0),
            (base::NETWORK, Some(IPV6), _) => {
                (0, 0, if matches!(offset, 4 | 6 | 8..40) { PSEUDO_HEADER } else { 0 })
            }
            (base::NETWORK, Some(IPV4), _) => {
                (CHECKSUM_INET, 10, if matches!(offset, 2 | 12..20) { PSEUDO_HEADER } else { 0 })
            }
            (base::TRANSPORT, _, Some(TCP)) => (CHECKSUM_INET, 16, 0),
            (base::TRANSPORT, _, Some(17)) => (CHECKSUM_INET, 6, 0),
            _ => return Err("setting this field is not supported".into()),
        };
        if odd && csum_type != 0 {
            return Err("setting a single octet under a checksum is not supported".into());
        }
        Ok(Expr::PayloadSet { base, offset, len, sreg: 1, csum_type, csum_offset, csum_flags })
    }
}

fn nat_flags(nat: &NAT<'_>) -> Result<u32, Why> {
    bits_of(NAT_FLAGS, nat.flags.iter().flatten())
}

/// A code of a kind of rejection; that the port is unreachable unless said.
fn reject_code(code: Option<RejectCode>, kind: Type) -> Result<Option<u8>, Why> {
    let word = word_of(&code.unwrap_or(RejectCode::PortUnreach));
    let number = kind.number(&word).and_then(|number| number.try_into().ok());
    number.map(Some).ok_or_else(|| format!("a code that {} has not", kind.name()))
}
