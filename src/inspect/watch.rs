//! `berth nft watch`: every transaction as it happens, who made it, and what it changed.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};

use super::{Error, diff};
use crate::cli::nft::Watch;
use crate::exit::Code;
use crate::nft::Ruleset;
use crate::nft::dump::{Filter, Transaction};
use crate::nft::text::{Style, date};
use crate::sys::link::Links;
use crate::sys::netlink::Firewall;
use crate::sys::netlink::watch::Changes;

/// Prints a diff for each change of the ruleset, until a signal.
pub async fn run(wanted: &Watch, out: &mut impl Write) -> Result<Code, Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let firewall = Firewall::start()?;
    // Heard before it is read: no change is missed.
    let mut changes = Changes::open()?;
    let links = Links::open()?;
    let mut ruleset = dump(&firewall).await?;
    let before = text(&ruleset, &links).await?;
    let mut watching = Watching { before, colour: io::stdout().is_terminal() };
    tracing::info!("listening");
    let over = async {
        match wanted.time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    let mut printed = 0;
    while wanted.count.is_none_or(|count| printed < count) {
        let transaction = tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = &mut over => break,
            transaction = changes.next(&mut ruleset) => transaction?,
        };
        if transaction.is_none() {
            ruleset = dump(&firewall).await?;
        }
        let after = text(&ruleset, &links).await?;
        match watching.print(transaction.as_ref(), after, out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            result => result.map_err(Error::Write)?,
        }
        printed += 1;
    }
    Ok(Code::Success)
}

async fn dump(firewall: &Firewall) -> Result<Ruleset, Error> {
    Ok(firewall.dump(Filter::default()).await?.1)
}

/// Without what counts: packets change nothing here.
async fn text(ruleset: &Ruleset, links: &Links) -> Result<String, Error> {
    let style = Style { stateless: true, interfaces: links.names().await?, ..Style::default() };
    Ok(ruleset.text(&style))
}

struct Watching {
    before: String,
    colour: bool,
}

impl Watching {
    fn print(
        &mut self,
        by: Option<&Transaction>,
        after: String,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let (bold, plain) = if self.colour { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        match by {
            Some(Transaction { generation, pid, process }) => {
                writeln!(
                    out,
                    "{bold}{} generation {generation}: {process} (pid {pid}){plain}",
                    now()
                )?;
            }
            None => writeln!(
                out,
                "{bold}{} several changes, faster than they could be heard{plain}",
                now()
            )?,
        }
        if self.before == after {
            writeln!(out, "  nothing that a listing shows")?;
        }
        diff::write(out, &self.before, &after, self.colour)?;
        self.before = after;
        out.flush()
    }
}

#[expect(clippy::disallowed_methods, reason = "a verb: the time of a change is told")]
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    format!("{}Z", date(since.as_nanos()).replace(' ', "T"))
}
