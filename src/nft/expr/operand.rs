//! What expressions compare, fill registers with and end rules by.

/// How a register is compared, in network order (`enum nft_cmp_ops`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CmpOp {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
}

impl CmpOp {
    pub(super) const ALL: [Self; 6] =
        [Self::Eq, Self::Neq, Self::Lt, Self::Lte, Self::Gt, Self::Gte];
}

/// Where a packet goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// NF_DROP.
    Drop,
    /// NF_ACCEPT: this chain is done with it.
    Accept,
    /// NFT_CONTINUE: the next rule.
    Continue,
    /// NFT_RETURN: back to where the chain was jumped to from.
    Return,
    /// NFT_JUMP to this chain, which may return.
    Jump(String),
    /// NFT_GOTO this chain, which returns to where this one would.
    Goto(String),
    /// Any other code, as the kernel has it.
    Code(i32),
}

/// What a register, or the right side of a map, is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// In the order the register holds it.
    Value(Vec<u8>),
    /// What becomes of the packet.
    Verdict(Verdict),
}

/// Which address is translated (`enum nft_nat_types`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// The source's.
    Snat,
    /// The destination's.
    Dnat,
}
