//! What is wrong with the words: by variable, what it was and what is allowed.

use std::fmt;

use super::source::without_secrets;

/// One value that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Environment name of the option.
    pub variable: &'static str,
    pub value: String,
    /// What is wrong with it, or what was expected.
    pub reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?}: {}", self.variable, without_secrets(&self.value), self.reason)
    }
}

/// All that is wrong, in the order of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Invalid>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(Invalid::to_string).collect();
        f.write_str(&words.join("\n"))
    }
}

impl std::error::Error for Errors {}
