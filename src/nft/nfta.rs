//! Netlink attributes of nf_tables by the names of linux/netfilter/nf_tables.h: `NFTA_CHAIN_TABLE` is
//! `nfta::chain::TABLE`. Those that are neither sent nor read are left out.

/// Of chains, rules, sets, elements and objects the first attribute is their table, of a table its name.
pub const TABLE: u16 = 1;

/// `NFTA_TABLE_*`
pub mod table {
    pub const NAME: u16 = 1;
    pub const FLAGS: u16 = 2;
    pub const HANDLE: u16 = 4;
    pub const USERDATA: u16 = 6;
}

/// `NFTA_CHAIN_*`
pub mod chain {
    pub const TABLE: u16 = 1;
    pub const HANDLE: u16 = 2;
    pub const NAME: u16 = 3;
    pub const HOOK: u16 = 4;
    pub const POLICY: u16 = 5;
    pub const TYPE: u16 = 7;
    pub const FLAGS: u16 = 10;
    pub const USERDATA: u16 = 12;
}

/// `NFTA_HOOK_*`
pub mod hook {
    pub const HOOKNUM: u16 = 1;
    pub const PRIORITY: u16 = 2;
    pub const DEV: u16 = 3;
    pub const DEVS: u16 = 4;
}

/// `NFTA_DEVICE_*`
pub mod device {
    pub const NAME: u16 = 1;
}

/// `NFTA_RULE_*`
pub mod rule {
    pub const TABLE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const HANDLE: u16 = 3;
    pub const EXPRESSIONS: u16 = 4;
    pub const POSITION: u16 = 6;
    pub const USERDATA: u16 = 7;
}

/// `NFTA_SET_*`
pub mod set {
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_LEN: u16 = 5;
    pub const DATA_TYPE: u16 = 6;
    pub const DATA_LEN: u16 = 7;
    pub const POLICY: u16 = 8;
    pub const DESC: u16 = 9;
    pub const ID: u16 = 10;
    pub const TIMEOUT: u16 = 11;
    pub const GC_INTERVAL: u16 = 12;
    pub const USERDATA: u16 = 13;
    pub const OBJ_TYPE: u16 = 15;
    pub const HANDLE: u16 = 16;
    pub const EXPR: u16 = 17;
    pub const EXPRESSIONS: u16 = 18;
}

/// `NFTA_SET_DESC_*`
pub mod set_desc {
    pub const SIZE: u16 = 1;
    pub const CONCAT: u16 = 2;
}

/// `NFTA_SET_FIELD_*`
pub mod set_field {
    pub const LEN: u16 = 1;
}

/// `NFTA_SET_ELEM_*`
pub mod set_elem {
    pub const KEY: u16 = 1;
    pub const DATA: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const TIMEOUT: u16 = 4;
    pub const EXPIRATION: u16 = 5;
    pub const USERDATA: u16 = 6;
    pub const EXPR: u16 = 7;
    pub const OBJREF: u16 = 9;
    pub const KEY_END: u16 = 10;
    pub const EXPRESSIONS: u16 = 11;
}

/// `NFTA_SET_ELEM_LIST_*`
pub mod set_elem_list {
    pub const TABLE: u16 = 1;
    pub const SET: u16 = 2;
    pub const ELEMENTS: u16 = 3;
    pub const SET_ID: u16 = 4;
}

/// `NFTA_OBJ_*`
pub mod obj {
    pub const TABLE: u16 = 1;
    pub const NAME: u16 = 2;
    pub const TYPE: u16 = 3;
    pub const DATA: u16 = 4;
    pub const HANDLE: u16 = 6;
    pub const USERDATA: u16 = 8;
}

/// `NFTA_FLOWTABLE_*`
pub mod flowtable {
    pub const NAME: u16 = 2;
    pub const HOOK: u16 = 3;
    pub const HANDLE: u16 = 5;
    pub const FLAGS: u16 = 7;
}

/// `NFTA_FLOWTABLE_HOOK_*`
pub mod flowtable_hook {
    pub const NUM: u16 = 1;
    pub const PRIORITY: u16 = 2;
    pub const DEVS: u16 = 3;
}

/// `NFTA_GEN_*`
pub mod generation {
    pub const ID: u16 = 1;
    pub const PROC_PID: u16 = 2;
    pub const PROC_NAME: u16 = 3;
}

/// `NFTA_TRACE_*`
pub mod trace {
    pub const TABLE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const RULE_HANDLE: u16 = 3;
    pub const TYPE: u16 = 4;
    pub const VERDICT: u16 = 5;
    pub const ID: u16 = 6;
    pub const LL_HEADER: u16 = 7;
    pub const NETWORK_HEADER: u16 = 8;
    pub const TRANSPORT_HEADER: u16 = 9;
    pub const IIF: u16 = 10;
    pub const OIF: u16 = 12;
    pub const MARK: u16 = 14;
    pub const POLICY: u16 = 16;
}

/// `NFTA_DATA_*`
pub mod data {
    pub const VALUE: u16 = 1;
    pub const VERDICT: u16 = 2;
}

/// `NFTA_VERDICT_*`
pub mod verdict {
    pub const CODE: u16 = 1;
    pub const CHAIN: u16 = 2;
}

/// `NFTA_LIST_*`
pub mod list {
    pub const ELEM: u16 = 1;
}

/// `NFTA_EXPR_*`
pub mod expr {
    pub const NAME: u16 = 1;
    pub const DATA: u16 = 2;
}

/// `NFTA_META_*`
pub mod meta {
    pub const DREG: u16 = 1;
    pub const KEY: u16 = 2;
    pub const SREG: u16 = 3;
}

/// `NFTA_PAYLOAD_*`
pub mod payload {
    pub const DREG: u16 = 1;
    pub const BASE: u16 = 2;
    pub const OFFSET: u16 = 3;
    pub const LEN: u16 = 4;
    pub const SREG: u16 = 5;
    pub const CSUM_TYPE: u16 = 6;
    pub const CSUM_OFFSET: u16 = 7;
    pub const CSUM_FLAGS: u16 = 8;
}

/// `NFTA_CMP_*`
pub mod cmp {
    pub const SREG: u16 = 1;
    pub const OP: u16 = 2;
    pub const DATA: u16 = 3;
}

/// `NFTA_RANGE_*`
pub mod range {
    pub const SREG: u16 = 1;
    pub const OP: u16 = 2;
    pub const FROM_DATA: u16 = 3;
    pub const TO_DATA: u16 = 4;
}

/// `NFTA_BITWISE_*`
pub mod bitwise {
    pub const SREG: u16 = 1;
    pub const DREG: u16 = 2;
    pub const LEN: u16 = 3;
    pub const MASK: u16 = 4;
    pub const XOR: u16 = 5;
    pub const OP: u16 = 6;
    pub const DATA: u16 = 7;
}

/// `NFTA_BYTEORDER_*`
pub mod byteorder {
    pub const SREG: u16 = 1;
    pub const DREG: u16 = 2;
    pub const OP: u16 = 3;
    pub const LEN: u16 = 4;
    pub const SIZE: u16 = 5;
}

/// `NFTA_LOOKUP_*`
pub mod lookup {
    pub const SET: u16 = 1;
    pub const SREG: u16 = 2;
    pub const DREG: u16 = 3;
    pub const SET_ID: u16 = 4;
    pub const FLAGS: u16 = 5;
}

/// `NFTA_IMMEDIATE_*`
pub mod immediate {
    pub const DREG: u16 = 1;
    pub const DATA: u16 = 2;
}

/// `NFTA_COUNTER_*`
pub mod counter {
    pub const BYTES: u16 = 1;
    pub const PACKETS: u16 = 2;
    pub const PAD: u16 = 3;
}

/// `NFTA_CT_*`
pub mod ct {
    pub const DREG: u16 = 1;
    pub const KEY: u16 = 2;
    pub const DIRECTION: u16 = 3;
    pub const SREG: u16 = 4;
}

/// `NFTA_FIB_*`
pub mod fib {
    pub const DREG: u16 = 1;
    pub const RESULT: u16 = 2;
    pub const FLAGS: u16 = 3;
}

/// `NFTA_RT_*`
pub mod rt {
    pub const DREG: u16 = 1;
    pub const KEY: u16 = 2;
}

/// `NFTA_EXTHDR_*`
pub mod exthdr {
    pub const DREG: u16 = 1;
    pub const TYPE: u16 = 2;
    pub const OFFSET: u16 = 3;
    pub const LEN: u16 = 4;
    pub const FLAGS: u16 = 5;
    pub const OP: u16 = 6;
    pub const SREG: u16 = 7;
}

/// `NFTA_NAT_*`
pub mod nat {
    pub const TYPE: u16 = 1;
    pub const FAMILY: u16 = 2;
    pub const REG_ADDR_MIN: u16 = 3;
    pub const REG_ADDR_MAX: u16 = 4;
    pub const REG_PROTO_MIN: u16 = 5;
    pub const REG_PROTO_MAX: u16 = 6;
    pub const FLAGS: u16 = 7;
}

/// `NFTA_MASQ_*`
pub mod masq {
    pub const FLAGS: u16 = 1;
    pub const REG_PROTO_MIN: u16 = 2;
    pub const REG_PROTO_MAX: u16 = 3;
}

/// `NFTA_REDIR_*`
pub mod redir {
    pub const REG_PROTO_MIN: u16 = 1;
    pub const REG_PROTO_MAX: u16 = 2;
    pub const FLAGS: u16 = 3;
}

/// `NFTA_LIMIT_*`
pub mod limit {
    pub const RATE: u16 = 1;
    pub const UNIT: u16 = 2;
    pub const BURST: u16 = 3;
    pub const TYPE: u16 = 4;
    pub const FLAGS: u16 = 5;
    pub const PAD: u16 = 6;
}

/// `NFTA_LOG_*`
pub mod log {
    pub const GROUP: u16 = 1;
    pub const PREFIX: u16 = 2;
    pub const SNAPLEN: u16 = 3;
    pub const QTHRESHOLD: u16 = 4;
    pub const LEVEL: u16 = 5;
    pub const FLAGS: u16 = 6;
}

/// `NFTA_REJECT_*`
pub mod reject {
    pub const TYPE: u16 = 1;
    pub const ICMP_CODE: u16 = 2;
}

/// `NFTA_SOCKET_*`
pub mod socket {
    pub const KEY: u16 = 1;
    pub const DREG: u16 = 2;
    pub const LEVEL: u16 = 3;
}

/// `NFTA_OSF_*`
pub mod osf {
    pub const DREG: u16 = 1;
    pub const TTL: u16 = 2;
    pub const FLAGS: u16 = 3;
}

/// `NFTA_NG_*`
pub mod numgen {
    pub const DREG: u16 = 1;
    pub const MODULUS: u16 = 2;
    pub const TYPE: u16 = 3;
    pub const OFFSET: u16 = 4;
}

/// `NFTA_HASH_*`
pub mod hash {
    pub const SREG: u16 = 1;
    pub const DREG: u16 = 2;
    pub const LEN: u16 = 3;
    pub const MODULUS: u16 = 4;
    pub const SEED: u16 = 5;
    pub const OFFSET: u16 = 6;
    pub const TYPE: u16 = 7;
}

/// `NFTA_XFRM_*`
pub mod xfrm {
    pub const DREG: u16 = 1;
    pub const KEY: u16 = 2;
    pub const DIR: u16 = 3;
    pub const SPNUM: u16 = 4;
}

/// `NFTA_TUNNEL_*`
pub mod tunnel {
    pub const KEY: u16 = 1;
    pub const DREG: u16 = 2;
}

/// `NFTA_QUOTA_*`
pub mod quota {
    pub const BYTES: u16 = 1;
    pub const FLAGS: u16 = 2;
    pub const PAD: u16 = 3;
    pub const CONSUMED: u16 = 4;
}

/// `NFTA_CONNLIMIT_*`
pub mod connlimit {
    pub const COUNT: u16 = 1;
    pub const FLAGS: u16 = 2;
}

/// `NFTA_LAST_*`
pub mod last {
    pub const SET: u16 = 1;
    pub const MSECS: u16 = 2;
    pub const PAD: u16 = 3;
}

/// `NFTA_TPROXY_*`
pub mod tproxy {
    pub const FAMILY: u16 = 1;
    pub const REG_ADDR: u16 = 2;
    pub const REG_PORT: u16 = 3;
}

/// `NFTA_QUEUE_*`
pub mod queue {
    pub const NUM: u16 = 1;
    pub const TOTAL: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const SREG_QNUM: u16 = 4;
}

/// `NFTA_DUP_*`
pub mod dup {
    pub const SREG_ADDR: u16 = 1;
    pub const SREG_DEV: u16 = 2;
}

/// `NFTA_FWD_*`
pub mod fwd {
    pub const SREG_DEV: u16 = 1;
    pub const SREG_ADDR: u16 = 2;
    pub const NFPROTO: u16 = 3;
}

/// `NFTA_SYNPROXY_*`
pub mod synproxy {
    pub const MSS: u16 = 1;
    pub const WSCALE: u16 = 2;
    pub const FLAGS: u16 = 3;
}

/// `NFTA_DYNSET_*`
pub mod dynset {
    pub const SET_NAME: u16 = 1;
    pub const SET_ID: u16 = 2;
    pub const OP: u16 = 3;
    pub const SREG_KEY: u16 = 4;
    pub const SREG_DATA: u16 = 5;
    pub const TIMEOUT: u16 = 6;
    pub const EXPR: u16 = 7;
    pub const PAD: u16 = 8;
    pub const FLAGS: u16 = 9;
    pub const EXPRESSIONS: u16 = 10;
}

/// `NFTA_MATCH_*`, `NFTA_TARGET_*`
pub mod xt {
    pub const NAME: u16 = 1;
    pub const REV: u16 = 2;
    pub const INFO: u16 = 3;
}

/// `NFTA_FLOW_*`
pub mod flow {
    pub const TABLE_NAME: u16 = 1;
}

/// `NFTA_OBJREF_*`
pub mod objref {
    pub const IMM_TYPE: u16 = 1;
    pub const IMM_NAME: u16 = 2;
    pub const SET_SREG: u16 = 3;
    pub const SET_NAME: u16 = 4;
    pub const SET_ID: u16 = 5;
}

/// `NFTA_CT_HELPER_*`
pub mod ct_helper {
    pub const NAME: u16 = 1;
    pub const L3PROTO: u16 = 2;
    pub const L4PROTO: u16 = 3;
}

/// `NFTA_CT_TIMEOUT_*`
pub mod ct_timeout {
    pub const L3PROTO: u16 = 1;
    pub const L4PROTO: u16 = 2;
    pub const DATA: u16 = 3;
}

/// `NFTA_SECMARK_*`
pub mod secmark {
    pub const CTX: u16 = 1;
}

/// `NFTA_CT_EXPECT_*`
pub mod ct_expect {
    pub const L3PROTO: u16 = 1;
    pub const L4PROTO: u16 = 2;
    pub const DPORT: u16 = 3;
    pub const TIMEOUT: u16 = 4;
    pub const SIZE: u16 = 5;
}
