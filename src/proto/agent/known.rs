//! What the agent said, for whoever wants to see it without asking.

use std::collections::BTreeSet;
use std::time::Instant;

use super::values::{Answer, FileSystem, Info, Interface, OsInfo};
use super::{NoAnswer, Request};

/// Whether somebody is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nobody has the port open in the guest.
    #[default]
    Absent,
    /// The port is open, and nothing was understood yet.
    Syncing,
    Answering,
    /// It answers, and its file systems are frozen.
    Frozen,
    /// The port is open, and nobody answers.
    Lost,
}

impl Presence {
    /// The word in `berth status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Syncing => "syncing",
            Self::Answering => "answers",
            Self::Frozen => "frozen",
            Self::Lost => "silent",
        }
    }

    /// Whether it would answer now.
    pub fn answers(self) -> bool {
        matches!(self, Self::Answering | Self::Frozen)
    }
}

/// As of [`Self::heard`]: it stays while the agent is silent or frozen, and goes with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub presence: Presence,
    /// The agent's own.
    pub version: Option<String>,
    pub os: Option<OsInfo>,
    pub host_name: Option<String>,
    pub interfaces: Vec<Interface>,
    pub file_systems: Vec<FileSystem>,
    /// When it last answered.
    pub heard: Option<Instant>,
    /// None: it did not say.
    commands: Option<BTreeSet<String>>,
    is_frozen: bool,
    has_changed: bool,
}

impl Known {
    pub(super) fn is_frozen(&self) -> bool {
        self.is_frozen
    }

    /// One that does not say what it has may have all.
    pub(super) fn may_have(&self, request: &Request) -> bool {
        self.commands.as_ref().is_none_or(|commands| commands.contains(request.name()))
    }

    pub(super) fn hear(&mut self, now: Instant, answer: &Result<Answer, NoAnswer>) {
        self.heard = Some(now);
        self.has_changed = true;
        match answer {
            Ok(Answer::Info(Info { version, commands })) => {
                self.version = version.clone();
                self.commands = (!commands.is_empty()).then(|| commands.clone());
            }
            Ok(Answer::Os(os)) => self.os = Some(os.clone()),
            Ok(Answer::HostName(name)) => self.host_name = Some(name.clone()),
            Ok(Answer::Interfaces(interfaces)) => self.interfaces.clone_from(interfaces),
            Ok(Answer::FreezeStatus(frozen)) => self.is_frozen = *frozen,
            Ok(Answer::Frozen(_)) | Err(NoAnswer::Frozen) => self.is_frozen = true,
            Ok(Answer::Thawed(_)) => self.is_frozen = false,
            Ok(Answer::FileSystems(systems)) => self.file_systems.clone_from(systems),
            Ok(Answer::Done) | Err(_) => {}
        }
    }

    pub(super) fn forget(&mut self) {
        *self = Self { presence: self.presence, has_changed: true, ..Self::default() };
    }

    /// Whether that is news, or something else was.
    pub(super) fn is_shown_as(&mut self, presence: Presence) -> bool {
        let is_new = self.presence != presence;
        self.presence = presence;
        std::mem::take(&mut self.has_changed) || is_new
    }
}
