//! Words of statements and objects: flags, units, levels.

/// Numbers, or bits, with nft's words for them.
pub type Words = &'static [(u32, &'static str)];

/// The word for a number.
pub fn word(words: Words, number: u32) -> Option<&'static str> {
    words.iter().find(|(known, _)| *known == number).map(|(_, word)| *word)
}

/// The number for a word.
pub fn number(words: Words, word: &str) -> Option<u32> {
    words.iter().find(|(_, known)| *known == word).map(|(number, _)| *number)
}

/// The words for the bits that are set; what has no word is left out.
pub fn bit_words(words: Words, bits: u32) -> Vec<&'static str> {
    words.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| *word).collect()
}

/// NFT_TABLE_F_*.
pub const TABLE_FLAGS: Words = &[(1, "dormant"), (2, "owner"), (4, "persist")];
/// NFT_SET_*, as far as they are written.
pub const SET_FLAGS: Words =
    &[(2, "constant"), (0x20, "dynamic"), (4, "interval"), (0x10, "timeout")];
/// NFPROTO_*.
pub const FAMILIES: Words =
    &[(1, "inet"), (2, "ip"), (3, "arp"), (5, "netdev"), (7, "bridge"), (10, "ip6")];
/// NFT_OBJECT_*.
pub const OBJECTS: Words = &[
    (1, "counter"),
    (2, "quota"),
    (3, "ct helper"),
    (4, "limit"),
    (5, "connlimit"),
    (6, "tunnel"),
    (7, "ct timeout"),
    (8, "secmark"),
    (9, "ct expectation"),
    (10, "synproxy"),
];
/// NFT_DYNSET_OP_*.
pub const OPERATIONS: Words = &[(0, "add"), (1, "update"), (2, "delete")];

/// NF_NAT_RANGE_NETMAP.
pub const NETMAP: u32 = 0x40;
/// NF_NAT_RANGE_*.
pub const NAT_FLAGS: Words = &[(4, "random"), (0x10, "fully-random"), (8, "persistent")];
/// NFT_QUEUE_FLAG_*.
pub const QUEUE_FLAGS: Words = &[(1, "bypass"), (2, "fanout")];

/// NFTA_FIB_F_*.
pub const FIB_FLAGS: Words = &[(1, "saddr"), (2, "daddr"), (4, "mark"), (8, "iif"), (0x10, "oif")];
/// NFT_FIB_RESULT_*.
pub const FIB_RESULTS: Words = &[(1, "oif"), (2, "oifname"), (3, "type")];
/// NFT_OSF_TTL_*; 0 is not written.
pub const OSF_TTL: Words = &[(1, "loose"), (2, "skip")];

/// What a payload offset counts from (NFT_PAYLOAD_*_HEADER).
pub const BASES: Words = &[(0, "ll"), (1, "nh"), (2, "th"), (3, "ih")];

/// Seconds.
pub const TIME_UNITS: Words =
    &[(1, "second"), (60, "minute"), (3600, "hour"), (86_400, "day"), (604_800, "week")];
/// Octets.
pub const BYTE_UNITS: Words = &[(1, "bytes"), (1 << 10, "kbytes"), (1 << 20, "mbytes")];

/// The word for so many seconds.
pub fn time_unit(seconds: u64) -> &'static str {
    u32::try_from(seconds).ok().and_then(|seconds| word(TIME_UNITS, seconds)).unwrap_or("second")
}

/// The largest of bytes, kbytes, … that divides so many bytes, and how often.
pub fn byte_unit(bytes: u64) -> (u64, &'static str) {
    let mut units = BYTE_UNITS.iter().rev().map(|(unit, word)| (u64::from(*unit), *word));
    let found = units.find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit));
    found.map_or((bytes, "bytes"), |(unit, word)| (bytes / unit, word))
}

/// Levels of syslog(3); `warn` is the default and not written.
pub const LOG_LEVELS: Words = &[
    (0, "emerg"),
    (1, "alert"),
    (2, "crit"),
    (3, "err"),
    (4, "warn"),
    (5, "notice"),
    (6, "info"),
    (7, "debug"),
    (8, "audit"),
];
pub const WARN: u32 = 4;
/// NF_LOG_*.
pub const LOG_FLAGS: Words =
    &[(1, "tcp sequence"), (2, "tcp options"), (4, "ip options"), (8, "skuid"), (0x20, "ether")];
/// NF_LOG_TCPSEQ, _TCPOPT, _IPOPT, _UID, _MACDECODE together.
pub const LOG_ALL: u32 = 0x2f;

/// NF_SYNPROXY_OPT_*.
pub const SYNPROXY_MSS: u32 = 1;
pub const SYNPROXY_WSCALE: u32 = 2;
pub const SYNPROXY_FLAGS: Words = &[(8, "timestamp"), (4, "sack-perm")];

/// CTA_TIMEOUT_TCP_*: attribute, word, and the kernel's default in seconds, which is not written.
pub const TCP_TIMEOUTS: &[(u16, &str, u32)] = &[
    (1, "syn_sent", 120),
    (2, "syn_recv", 60),
    (3, "established", 432_000),
    (4, "fin_wait", 120),
    (5, "close_wait", 60),
    (6, "last_ack", 30),
    (7, "time_wait", 120),
    (8, "close", 10),
    (9, "syn_sent2", 120),
    (10, "retrans", 300),
    (11, "unack", 300),
];
/// CTA_TIMEOUT_UDP_*.
pub const UDP_TIMEOUTS: &[(u16, &str, u32)] = &[(1, "unreplied", 30), (2, "replied", 120)];

/// `0x0a0b`: octets that have no other form.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("0x".to_owned()).chain(digits).collect()
}
