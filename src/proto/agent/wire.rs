//! The shapes of qga/qapi-schema.json, as far as they are read here: what is too much of a text or a list is passed over as it
//! is read.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

const MAX_INTERFACES: usize = 64;
const MAX_ADDRESSES: usize = 32;
const MAX_FILE_SYSTEMS: usize = 64;
const MAX_COMMANDS: usize = 256;
/// Characters of a name; a path may be longer.
const NAME: usize = 128;
const PATH: usize = 1024;

#[derive(Debug, Deserialize)]
pub struct Nothing {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FreezeStatus {
    Thawed,
    Frozen,
}

#[derive(Debug, Deserialize)]
pub struct Info {
    pub version: Option<Text<NAME>>,
    #[serde(default)]
    pub supported_commands: List<Command, MAX_COMMANDS>,
}

#[derive(Debug, Deserialize)]
pub struct Command {
    pub name: Text<NAME>,
    pub enabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OsInfo {
    pub id: Option<Text<NAME>>,
    pub pretty_name: Option<Text<NAME>>,
    pub version_id: Option<Text<NAME>>,
    pub kernel_release: Option<Text<NAME>>,
    pub machine: Option<Text<NAME>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostName {
    pub host_name: Text<NAME>,
}

pub type Interfaces = List<Interface, MAX_INTERFACES>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interface {
    pub name: Text<NAME>,
    pub hardware_address: Option<Text<NAME>>,
    #[serde(default)]
    pub ip_addresses: List<Address, MAX_ADDRESSES>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Address {
    pub ip_address: Text<NAME>,
    #[serde(default)]
    pub prefix: Number<u8>,
}

pub type FileSystems = List<FileSystem, MAX_FILE_SYSTEMS>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileSystem {
    pub mountpoint: Text<PATH>,
    #[serde(rename = "type")]
    pub kind: Text<NAME>,
    #[serde(default)]
    pub used_bytes: Number<u64>,
    #[serde(default)]
    pub total_bytes: Number<u64>,
}

/// None where it is none of its kind: one odd element costs no list.
#[derive(Debug, Default)]
pub struct Number<T>(pub Option<T>);

impl<'de, T: TryFrom<u64>> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Option::<serde_json::Number>::deserialize(deserializer)?;
        let whole = number.and_then(|number| number.as_u64());
        Ok(Self(whole.and_then(|whole| T::try_from(whole).ok())))
    }
}

/// Cut, and without what would move a cursor or turn the line around.
pub fn cut(text: &str, at_most: usize) -> String {
    let is_harmless = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(is_harmless).take(at_most).collect()
}

/// A text of at most `N` characters.
#[derive(Debug, Default)]
pub struct Text<const N: usize>(pub String);

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Cut<const N: usize>;
        impl<const N: usize> Visitor<'_> for Cut<N> {
            type Value = Text<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(cut(text, N)))
            }
        }
        deserializer.deserialize_str(Cut)
    }
}

/// The first `N` of a list.
#[derive(Debug)]
pub struct List<T, const N: usize>(pub Vec<T>);

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct First<T, const N: usize>(Vec<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for First<T, N> {
            type Value = List<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                mut self,
                mut list: A,
            ) -> Result<Self::Value, A::Error> {
                while self.0.len() < N {
                    match list.next_element()? {
                        Some(element) => self.0.push(element),
                        None => return Ok(List(self.0)),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List(self.0))
            }
        }
        deserializer.deserialize_seq(First(Vec::new()))
    }
}
