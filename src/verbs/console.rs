//! `berth console`.

use std::path::Path;

use berth::cli::console::Console;
use berth::config;
use berth::console::client::{self, End, Error};
use berth::console::socket::{Ask, Attached};
use berth::console::{Mode, REPLAY_BYTES};
use berth::exit::{Code, Failure};
use berth::log::one_line;
use berth::status;

/// The guest's serial line, until either end.
pub async fn run(console: &Console) -> Result<Code, Failure> {
    let Console { state_dir, read_only, no_replay, log } = console;
    let dir = state_dir.as_deref().unwrap_or(Path::new(config::STATE_DIR));
    let mode = if *read_only || *log { Mode::ReadOnly } else { Mode::ReadWrite };
    let replay = if *no_replay { 0 } else { REPLAY_BYTES };
    let session = match client::attach(dir, &Ask { mode, replay, follow: !log }).await {
        Ok(session) => session,
        Err(error) => return Err(explain(error, dir).await),
    };
    if !log {
        client::tell(greeting(&session.attached)).await;
    }
    let end = session.relay(!log).await?;
    let code = match end {
        End::Left { .. } | End::Guest | End::Unread => Code::Success,
        End::Signal(number) => Code::Signal(number),
    };
    match end {
        End::Left { dropped: 0 } => {
            client::tell("left the console; the guest goes on".to_owned()).await;
        }
        End::Left { dropped } => {
            client::tell(format!(
                "left the console; {dropped} bytes were typed in vain: the guest takes none"
            ))
            .await;
        }
        End::Guest if !log => client::tell("the guest has ended".to_owned()).await,
        End::Guest | End::Unread | End::Signal(_) => {}
    }
    Ok(code)
}

fn greeting(attached: &Attached) -> String {
    let Attached { mode, others, .. } = attached;
    let others: Vec<_> = others.iter().map(|other| one_line(other)).collect();
    let others = if others.is_empty() { "nobody".to_owned() } else { others.join("; ") };
    match mode {
        Mode::ReadWrite => format!(
            "attached to the guest's console. Ctrl-] leaves, twice sends one. Also there: {others}"
        ),
        Mode::ReadOnly => format!(
            "attached to the guest's console, read-only. Ctrl-] or Ctrl-C leaves. Also there: {others}"
        ),
    }
}

/// A network half answers `berth status` in its directory, and has no guest.
async fn explain(error: Error, dir: &Path) -> Failure {
    if let Error::Unreachable { .. } = error
        && let Ok(status) = status::ask(dir).await
        && status.guest.is_none()
    {
        return Failure::new(
            Code::NoConsole,
            "this is `berth net`, which has no guest: its console is in the container of `berth vm`",
        );
    }
    error.into()
}
