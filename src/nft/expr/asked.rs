//! What can be asked of an expression: the set it uses, the register it fills, its name.

use super::{Data, Expr, Register, VERDICT, Verdict};

impl Expr {
    /// Ends the rule by this.
    pub fn verdict(verdict: Verdict) -> Self {
        Self::Immediate { dreg: VERDICT, data: Data::Verdict(verdict) }
    }

    /// A counter that has counted nothing.
    pub fn counter() -> Self {
        Self::Counter { packets: 0, bytes: 0 }
    }

    /// The set or map it uses, by name.
    pub fn set_name(&self) -> Option<&String> {
        match self {
            Self::Lookup { set, .. } | Self::Dynset { set, .. } | Self::ObjrefMap { set, .. } => {
                Some(set)
            }
            _ => None,
        }
    }

    pub(crate) fn set_name_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Lookup { set, .. } | Self::Dynset { set, .. } | Self::ObjrefMap { set, .. } => {
                Some(set)
            }
            _ => None,
        }
    }

    /// The register a load fills.
    pub fn loads_into(&self) -> Option<Register> {
        match self {
            Self::Meta { dreg, .. }
            | Self::Payload { dreg, .. }
            | Self::Bitwise { dreg, .. }
            | Self::Shift { dreg, .. }
            | Self::Byteorder { dreg, .. }
            | Self::Immediate { dreg, .. }
            | Self::Ct { dreg, .. }
            | Self::Fib { dreg, .. }
            | Self::Rt { dreg, .. }
            | Self::Exthdr { dreg, .. }
            | Self::Socket { dreg, .. }
            | Self::Osf { dreg, .. }
            | Self::Numgen { dreg, .. }
            | Self::Hash { dreg, .. }
            | Self::Xfrm { dreg, .. }
            | Self::Tunnel { dreg, .. } => Some(*dreg),
            Self::Lookup { dreg, .. } => *dreg,
            _ => None,
        }
    }

    /// The kernel's name of the expression.
    pub fn name(&self) -> &str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Payload { .. } | Self::PayloadSet { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Bitwise { .. } | Self::Shift { .. } => "bitwise",
            Self::Byteorder { .. } => "byteorder",
            Self::Lookup { .. } => "lookup",
            Self::Immediate { .. } => "immediate",
            Self::Counter { .. } => "counter",
            Self::Ct { .. } | Self::CtSet { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Rt { .. } => "rt",
            Self::Exthdr { .. } | Self::ExthdrSet { .. } | Self::ExthdrReset { .. } => "exthdr",
            Self::Nat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Redirect { .. } => "redir",
            Self::Limit { .. } => "limit",
            Self::Log { .. } => "log",
            Self::Reject { .. } => "reject",
            Self::Notrack => "notrack",
            Self::Socket { .. } => "socket",
            Self::Osf { .. } => "osf",
            Self::Numgen { .. } => "numgen",
            Self::Hash { .. } => "hash",
            Self::Xfrm { .. } => "xfrm",
            Self::Tunnel { .. } => "tunnel",
            Self::Quota { .. } => "quota",
            Self::Connlimit { .. } => "connlimit",
            Self::Last { .. } => "last",
            Self::Tproxy { .. } => "tproxy",
            Self::Queue { .. } => "queue",
            Self::Dup { .. } => "dup",
            Self::Fwd { .. } => "fwd",
            Self::Synproxy { .. } => "synproxy",
            Self::Dynset { .. } => "dynset",
            Self::Xt { target, .. } => {
                if *target {
                    "target"
                } else {
                    "match"
                }
            }
            Self::FlowOffload { .. } => "flow_offload",
            Self::Objref { .. } | Self::ObjrefMap { .. } => "objref",
            Self::Unknown { name, .. } => name,
        }
    }

    /// What nft has no words for, visible as what it is.
    pub fn raw(&self) -> String {
        match self {
            Self::Unknown { name, bytes } => {
                format!("<{name} {}>", super::super::names::hex(bytes))
            }
            expr => format!("<{}>", expr.name()),
        }
    }
}
