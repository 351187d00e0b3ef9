//! The octets of an option from what a person writes for `--option`, by the type its RFC gives it.
//!
//! Codes and types are those of IANA's registry of BOOTP and DHCP parameters. Codes that have no type here are text;
//! those with a structure of their own, and all others for whoever knows better, are written as `hex:…`.

use std::net::Ipv4Addr;

use super::code;
use super::value::{add_route, search_list};
use crate::net::{DomainName, no_host, octets};

/// The longest value that is sent.
const LONGEST: usize = 1024;

/// Why the words for an option are not its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    #[error("option {0} is written by the server itself: leave it out")]
    Ours(u8),
    #[error("option {0} takes {1}, not {2:?}; hex:… gives the octets themselves")]
    Value(u8, &'static str, String),
    #[error("option {0} is {1} octets long: at most {LONGEST} are sent")]
    TooLong(u8, usize),
}

/// The octets of an option from a person's words: whatever the code takes by its RFC, or `hex:0a0b…` for any of them.
/// No words: the option is not sent at all.
pub fn encode(code: u8, words: &str) -> Result<Vec<u8>, OptionError> {
    if code::is_ours(code) {
        return Err(OptionError::Ours(code));
    }
    let (takes, value) = match words.strip_prefix("hex:") {
        Some(digits) => ("pairs of hexadecimal digits", octets(digits)),
        None if words.is_empty() => ("nothing", Some(Vec::new())),
        None => Kind::of(code).read(words),
    };
    let value = value.ok_or_else(|| OptionError::Value(code, takes, words.to_owned()))?;
    if value.len() > LONGEST { Err(OptionError::TooLong(code, value.len())) } else { Ok(value) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mask,
    /// One that hosts listen on, 255.255.255.255 as well.
    Broadcast,
    Address,
    Addresses,
    /// RFC 2132 §5.8, superseded by 121: it has no masks, and so no default route.
    Routes,
    /// RFC 2132 §4.3.
    Filters,
    ClasslessRoutes,
    Switch,
    NodeType,
    /// A time to live.
    Hops,
    /// One number of two octets, and its least.
    Size(u16),
    Sizes(u16),
    /// Four octets.
    Number,
    /// Seconds east of Greenwich.
    Offset,
    Name,
    Names,
    Text,
    /// With a structure of its own.
    Octets,
}

impl Kind {
    fn of(code: u8) -> Self {
        match code {
            code::MASK => Self::Mask,
            code::BROADCAST => Self::Broadcast,
            16 | 32 | code::SUBNET_SELECTION => Self::Address,
            code::ROUTER
            | 4..=11
            | 41
            | 42
            | 44
            | 45
            | 48
            | 49
            | 65
            | 68..=76
            | 85
            | 89
            | 112
            | 136
            | 138
            | 142
            | 150 => Self::Addresses,
            21 => Self::Filters,
            33 => Self::Routes,
            code::ROUTES | code::ROUTES_MICROSOFT => Self::ClasslessRoutes,
            19 | 20 | 27 | 29..=31 | 34 | 36 | 39 | code::AUTO_CONFIGURE => Self::Switch,
            46 => Self::NodeType,
            23 | 37 => Self::Hops,
            13 => Self::Size(1),
            22 => Self::Size(576),
            code::MTU => Self::Size(68),
            25 => Self::Sizes(68),
            117 => Self::Sizes(0),
            24 | 35 | 38 | code::V6_ONLY | 211 => Self::Number,
            2 => Self::Offset,
            code::HOST_NAME | code::DOMAIN_NAME => Self::Name,
            code::SEARCH => Self::Names,
            63
            | 78
            | 79
            | 83
            | 88
            | 99
            | 109
            | 120
            | 122..=125
            | 137
            | 139..=141
            | 143..=148
            | 151..=157
            | 159
            | 162
            | 212
            | 213
            | 220
            | 221 => Self::Octets,
            _ => Self::Text,
        }
    }

    /// What it takes, in words, and the octets.
    fn read(self, words: &str) -> (&'static str, Option<Vec<u8>>) {
        match self {
            Self::Mask => ("a mask of ones, then zeros, as 255.255.255.0", one(words, mask)),
            Self::Broadcast => ("a broadcast address", one(words, address)),
            Self::Address => ("one IPv4 address that a host can have", one(words, host)),
            Self::Addresses => ("IPv4 addresses that hosts can have, by comma", list(words, host)),
            Self::Routes => (
                "ADDRESS,ROUTER pairs without 0.0.0.0; 121 takes networks",
                pairs(words, host, host),
            ),
            Self::Filters => ("ADDRESS,MASK pairs", pairs(words, address, mask)),
            Self::ClasslessRoutes => ("NETWORK/LENGTH,ROUTER pairs", routes(words)),
            Self::Switch => ("0 or 1", number(words, 0, 1).map(|it: u8| vec![it])),
            Self::NodeType => {
                let known = number(words, 1u8, 8).filter(|kind| kind.is_power_of_two());
                ("1 (B-node), 2 (P), 4 (M) or 8 (H)", known.map(|kind| vec![kind]))
            }
            Self::Hops => {
                ("a number of 1 to 255", number(words, 1, u8::MAX).map(|it: u8| vec![it]))
            }
            Self::Size(min) => {
                let takes = match min {
                    576.. => "one number of 576 to 65535",
                    68.. => "one number of 68 to 65535",
                    _ => "one number of 1 to 65535",
                };
                (takes, size(words, min))
            }
            Self::Sizes(min) => {
                let takes = if min > 0 { "numbers of 68 to 65535" } else { "numbers up to 65535" };
                (takes, list(words, |word| size(word, min)))
            }
            Self::Number => {
                let it = number(words, 0, u32::MAX);
                ("a number of seconds or octets", it.map(|it: u32| it.to_be_bytes().to_vec()))
            }
            Self::Offset => {
                let it = number(words, -86_400, 86_400);
                (
                    "seconds east of Greenwich, within a day",
                    it.map(|it: i32| it.to_be_bytes().to_vec()),
                )
            }
            Self::Name => ("a name, as in web or lan.example", one(words, name)),
            Self::Names => ("domain names", names(words)),
            Self::Text => {
                let it = Some(words).filter(|words| !words.contains(char::is_control));
                ("text in one line", it.map(|words| words.as_bytes().to_vec()))
            }
            Self::Octets => ("octets of a structure of its own", None),
        }
    }
}

fn one(word: &str, read: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    read(word.trim())
}

fn list(words: &str, read: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let values: Option<Vec<_>> = words.split(',').map(|word| read(word.trim())).collect();
    values.map(|values| values.concat())
}

fn pairs(
    words: &str,
    first: impl Fn(&str) -> Option<Vec<u8>>,
    second: impl Fn(&str) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let words: Vec<&str> = words.split(',').map(str::trim).collect();
    let (pairs, rest) = words.as_chunks();
    let values: Option<Vec<_>> =
        pairs.iter().map(|[a, b]| Some([first(a)?, second(b)?].concat())).collect();
    values.filter(|_| rest.is_empty()).map(|values| values.concat())
}

fn routes(words: &str) -> Option<Vec<u8>> {
    let words: Vec<&str> = words.split(',').map(str::trim).collect();
    let (pairs, rest) = words.as_chunks();
    let mut out = Vec::new();
    for [to, by] in pairs {
        add_route(&mut out, to.parse().ok()?, by.parse().ok()?);
    }
    Some(out).filter(|_| rest.is_empty())
}

fn names(words: &str) -> Option<Vec<u8>> {
    let names: Option<Vec<String>> = words
        .split(',')
        .map(|word| Some(word.trim().parse::<DomainName>().ok()?.to_string()))
        .collect();
    names.map(|names| search_list(&names))
}

fn name(word: &str) -> Option<Vec<u8>> {
    word.parse::<DomainName>().ok().map(|name| name.as_str().as_bytes().to_vec())
}

fn address(word: &str) -> Option<Vec<u8>> {
    word.parse::<Ipv4Addr>().ok().map(|address| address.octets().to_vec())
}

fn host(word: &str) -> Option<Vec<u8>> {
    address(word).filter(|_| word.parse().is_ok_and(|address| no_host(address).is_none()))
}

fn mask(word: &str) -> Option<Vec<u8>> {
    let bits = word.parse::<Ipv4Addr>().ok()?.to_bits();
    (bits.leading_ones() == bits.count_ones()).then(|| bits.to_be_bytes().to_vec())
}

fn size(word: &str, min: u16) -> Option<Vec<u8>> {
    number(word, min, u16::MAX).map(|size| size.to_be_bytes().to_vec())
}

fn number<T: std::str::FromStr + PartialOrd>(word: &str, min: T, max: T) -> Option<T> {
    word.trim().parse().ok().filter(|number| (min..=max).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_written_as_its_rfc_types_it() {
        for (code, words, octets) in [
            (1, "255.255.254.0", &[255, 255, 254, 0][..]),
            (2, "-3600", &(-3600i32).to_be_bytes()),
            (3, "", &[]),
            (12, "Web.lan.", b"web.lan"),
            (13, "1", &[0, 1]),
            (15, "example.org", b"example.org"),
            (19, "1", &[1]),
            (21, "10.0.0.0,255.0.0.0", &[10, 0, 0, 0, 255, 0, 0, 0]),
            (22, "576", &[2, 64]),
            (23, "64", &[64]),
            (25, "68,1500", &[0, 68, 5, 220]),
            (26, "1400", &[5, 120]),
            (28, "255.255.255.255", &[255; 4]),
            (33, "10.1.0.0,10.0.0.9", &[10, 1, 0, 0, 10, 0, 0, 9]),
            (35, "4294967295", &[255; 4]),
            (42, "10.0.0.1, 10.0.0.2", &[10, 0, 0, 1, 10, 0, 0, 2]),
            (43, "hex:0104:0a000001", &[1, 4, 10, 0, 0, 1]),
            (46, "8", &[8]),
            (108, "1800", &[0, 0, 7, 8]),
            (116, "0", &[0]),
            (117, "6,44", &[0, 6, 0, 44]),
            (119, "a.b,b", b"\x01a\x01b\x00\xc0\x02"),
            (121, "10.9.0.0/16,10.0.0.2", &[16, 10, 9, 10, 0, 0, 2]),
            (252, "http://wpad/", b"http://wpad/"),
        ] {
            assert_eq!(encode(code, words).as_deref(), Ok(octets), "{code}={words}");
        }
    }

    /// 26=10 was seen on the wire.
    #[test]
    fn what_an_option_cannot_be_is_refused_with_what_it_can() {
        for (code, words, takes) in [
            (1, "255.0.255.0", "ones, then zeros"),
            (1, "255.0.0.0,255.0.0.0", "ones, then zeros"),
            (2, "86401", "within a day"),
            (3, "0.0.0.0", "hosts can have"),
            (6, "224.0.0.1", "hosts can have"),
            (12, "a b", "a name"),
            (13, "0", "1 to 65535"),
            (13, "1,2", "1 to 65535"),
            (15, "lan,home", "a name"),
            (16, "10.0.0.1,10.0.0.2", "one IPv4 address"),
            (19, "2", "0 or 1"),
            (20, "true", "0 or 1"),
            (21, "10.0.0.0,255.0.255.0", "MASK pairs"),
            (21, "10.0.0.0", "MASK pairs"),
            (22, "575", "576 to 65535"),
            (23, "0", "1 to 255"),
            (25, "67", "68 to 65535"),
            (26, "10", "68 to 65535"),
            (26, "67", "68 to 65535"),
            (26, "70000", "68 to 65535"),
            (26, "1400,1500", "68 to 65535"),
            (33, "10.1.0.0", "ROUTER pairs"),
            (33, "0.0.0.0,10.0.0.1", "ROUTER pairs"),
            (37, "0", "1 to 255"),
            (38, "-1", "a number"),
            (42, "ntp", "hosts can have"),
            (42, "10.0.0.1,", "hosts can have"),
            (46, "99", "8 (H)"),
            (46, "3", "8 (H)"),
            (46, "0", "8 (H)"),
            (43, "hex:1", "pairs"),
            (43, "hex:zz", "pairs"),
            (43, "hex:+1", "pairs"),
            (108, "-1", "a number"),
            (116, "2", "0 or 1"),
            (119, "a..b", "domain names"),
            (119, "a.b,", "domain names"),
            (120, "10.0.0.1", "structure of its own"),
            (121, "10.9.0.0/16", "ROUTER pairs"),
            (252, "http://wpad/\nx", "one line"),
        ] {
            let error = encode(code, words).expect_err(words).to_string();
            assert!(error.contains(takes), "{code}={words}: {error}");
        }
        for code in [0, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 80, 82, 90, 255] {
            assert_eq!(encode(code, "1"), Err(OptionError::Ours(code)));
        }
        assert_eq!(encode(252, &"x".repeat(1025)), Err(OptionError::TooLong(252, 1025)));
    }

    proptest::proptest! {
        /// What is taken is as long as its type, whatever was written.
        #[test]
        fn no_words_make_it_panic_and_lengths_are_those_of_types(
            code in proptest::num::u8::ANY,
            words in "[0-9.,/ -]{0,30}|(hex:)?[0-9a-f:]{0,20}|.{0,30}",
        ) {
            if let Ok(value) = encode(code, &words) && !words.is_empty() && !words.starts_with("hex:") {
                let right = match Kind::of(code) {
                    Kind::Mask | Kind::Broadcast | Kind::Address | Kind::Number | Kind::Offset => value.len() == 4,
                    Kind::Addresses => value.len() % 4 == 0 && !value.is_empty(),
                    Kind::Routes | Kind::Filters => value.len() % 8 == 0 && !value.is_empty(),
                    Kind::Switch => value == [0] || value == [1],
                    Kind::NodeType | Kind::Hops => value.len() == 1,
                    Kind::Size(_) => value.len() == 2,
                    Kind::Sizes(_) => value.len() % 2 == 0,
                    Kind::ClasslessRoutes => value.len() >= 5,
                    Kind::Name | Kind::Names | Kind::Text => !value.is_empty(),
                    Kind::Octets => false,
                };
                proptest::prop_assert!(right, "{}={:?}: {:?}", code, words, value);
            }
        }
    }
}
