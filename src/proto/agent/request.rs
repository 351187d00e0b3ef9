//! What the agent is asked.

use std::time::Duration;

use serde_json::{Value, json};

use super::DELIMITER;

/// Of most requests; a freeze has to wait for the disks.
const WITHIN: Duration = Duration::from_secs(5);
const FROZEN_WITHIN: Duration = Duration::from_secs(30);

/// Something that the agent is to tell or to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Ping,
    /// Its version and commands.
    Info,
    OsInfo,
    HostName,
    Interfaces,
    FileSystems,
    /// All file systems. They are thawed after `hold`, whoever forgets them.
    Freeze {
        hold: Duration,
    },
    Thaw,
    FreezeStatus,
    /// The guest's clock, in ns since the Unix epoch.
    SetTime {
        unix_ns: u64,
    },
    /// Has no answer when it succeeds.
    Shutdown,
}

impl Request {
    /// The agent's name of it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "guest-ping",
            Self::Info => "guest-info",
            Self::OsInfo => "guest-get-osinfo",
            Self::HostName => "guest-get-host-name",
            Self::Interfaces => "guest-network-get-interfaces",
            Self::FileSystems => "guest-get-fsinfo",
            Self::Freeze { .. } => "guest-fsfreeze-freeze",
            Self::Thaw => "guest-fsfreeze-thaw",
            Self::FreezeStatus => "guest-fsfreeze-status",
            Self::SetTime { .. } => "guest-set-time",
            Self::Shutdown => "guest-shutdown",
        }
    }

    pub(super) fn within(&self) -> Duration {
        match self {
            Self::Freeze { .. } | Self::Thaw => FROZEN_WITHIN,
            _ => WITHIN,
        }
    }

    /// How many places more there are for it than for questions, behind which it does not wait; 0 for one of these.
    pub(super) fn urgency(&self) -> usize {
        match self {
            Self::Thaw => 1,
            Self::Shutdown => 2,
            _ => 0,
        }
    }

    pub(super) fn line(&self) -> Vec<u8> {
        let arguments = match self {
            Self::SetTime { unix_ns } => Some(json!({"time": unix_ns})),
            Self::Shutdown => Some(json!({"mode": "powerdown"})),
            _ => None,
        };
        let mut message = json!({"execute": self.name()});
        if let (Some(arguments), Some(object)) = (arguments, message.as_object_mut()) {
            object.insert("arguments".to_owned(), arguments);
        }
        line(&message)
    }
}

/// The delimiter first: it ends whatever half a request lies in the port.
pub(super) fn sync(id: u32) -> Vec<u8> {
    let message = json!({"execute": "guest-sync-delimited", "arguments": {"id": id}});
    [vec![DELIMITER], line(&message)].concat()
}

fn line(message: &Value) -> Vec<u8> {
    format!("{message}\n").into_bytes()
}
