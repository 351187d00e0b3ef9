//! What a guest was saved with, by name: all that has to be the same where it goes on.

use std::fmt;

use sha2::{Digest, Sha256};

/// Octets of a name or a value; of a longer value its hash is kept.
pub(super) const MAX_VALUE: usize = 1024;
/// In one header.
pub(super) const MAX_FACTS: usize = 512;

/// One thing about the machine, its disks or its QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    pub what: String,
    pub value: String,
}

/// Each by its name, in the order they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(Vec<Fact>);

/// A fact that is another now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub what: String,
    /// None: there was none.
    pub saved: Option<String>,
    pub now: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        write!(f, "{}: saved {}, now {}", self.what, value(&self.saved), value(&self.now))
    }
}

impl Facts {
    /// A second one of the same name is numbered: two devices may have the same model.
    pub fn push(&mut self, what: impl Into<String>, value: impl Into<String>) {
        let (what, value) = (bounded(what.into()), bounded(value.into()));
        let numbered = (2..).map(|number| format!("{what} ({number})"));
        let free =
            std::iter::once(what.clone()).chain(numbered).find(|what| self.of(what).is_none());
        if self.0.len() < MAX_FACTS {
            self.0.push(Fact { what: free.unwrap_or(what), value });
        }
    }

    pub fn extend(&mut self, others: Self) {
        for Fact { what, value } in others.0 {
            self.push(what, value);
        }
    }

    pub fn all(&self) -> &[Fact] {
        &self.0
    }

    /// The value of this name.
    pub fn of(&self, what: &str) -> Option<&str> {
        self.0.iter().find(|fact| fact.what == what).map(|fact| fact.value.as_str())
    }

    /// Every fact of these that is another in `now`, and every one that is there alone.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let changed = self.0.iter().filter_map(|Fact { what, value }| {
            let now = now.of(what);
            (now != Some(value)).then(|| Difference {
                what: what.clone(),
                saved: Some(value.clone()),
                now: now.map(str::to_owned),
            })
        });
        let new = now.0.iter().filter(|fact| self.of(&fact.what).is_none());
        let new = new.map(|Fact { what, value }| Difference {
            what: what.clone(),
            saved: None,
            now: Some(value.clone()),
        });
        changed.chain(new).collect()
    }

    /// Of these facts only those that `now` is about: the others are looked at later.
    pub fn among(&self, names: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|fact| names(&fact.what)).cloned().collect())
    }
}

fn bounded(text: String) -> String {
    if text.len() <= MAX_VALUE {
        return text;
    }
    format!("{} octets of SHA-256 {}", text.len(), super::hex(&Sha256::digest(&text)))
}
