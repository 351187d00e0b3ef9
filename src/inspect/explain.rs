//! `berth nft explain`: what would happen to a packet.
//!
//! Words become a packet, the kernel is asked for its rules, interfaces and routes, and `nft::explain` walks. It
//! comes back with a question for each routing decision it meets; the kernel answers, and it walks anew.

mod wanted;

use std::io::{IsTerminal, Write, stdout};

use rtnetlink::Handle;

use super::{Error, written};
use crate::cli::Output;
use crate::cli::nft::Explain;
use crate::exit::Code;
use crate::nft::dump::Filter;
use crate::nft::explain::{Explanation, Outcome, Packet, Paint, Path, World, explain};
use crate::nft::{Family, Ruleset};
use crate::sys::link::Links;
use crate::sys::netlink::Firewall;
use crate::sys::route;

/// More than a packet can meet: one for each routing decision and each kind of fib lookup.
const QUESTIONS: usize = 64;

/// Prints what becomes of a packet. Errors are those of the words, of netlink and of writing.
pub async fn run(wanted: &Explain, out: &mut impl Write) -> Result<Code, Error> {
    let links = Links::open()?;
    let mut world = route::world(links.handle()).await?;
    world.within_limits = wanted.within_limits;
    let request = wanted::request(wanted, &mut world, links.handle()).await?;
    let (_, ruleset) = Firewall::start()?.dump(Filter::default()).await?;
    let wanted::Request { packet, path, family, assumed } = request;
    let mut explanation =
        predict(links.handle(), &ruleset, &mut world, &packet, path, family).await?;
    explanation.assumed = assumed;
    print(&explanation, wanted.output, out)?;
    Ok(match explanation.outcome {
        Outcome::Accepted => Code::Success,
        Outcome::Dropped | Outcome::Rejected => Code::Dropped,
        Outcome::CannotTell => Code::CannotTell,
    })
}

/// Walks the packet through the rules, with the kernel's own answers about routes.
pub async fn predict(
    handle: &Handle,
    ruleset: &Ruleset,
    world: &mut World,
    packet: &Packet,
    path: Path,
    family: Option<Family>,
) -> Result<Explanation, Error> {
    for _ in 0..QUESTIONS {
        match explain(ruleset, world, packet, path, family) {
            Ok(explanation) => return Ok(explanation),
            Err(question) => {
                let answer = route::answer(handle, &question).await?;
                world.routes.insert(question, answer);
            }
        }
    }
    Err(Error::Pod(format!(
        "{packet} asks for more than {QUESTIONS} routes: there is no end to it"
    )))
}

fn print(explanation: &Explanation, output: Output, out: &mut impl Write) -> Result<(), Error> {
    match output {
        Output::Text => {
            let colours = stdout().is_terminal();
            written(write!(out, "{}", Paint { explanation, colours }))
        }
        Output::Json => {
            let text = serde_json::to_string_pretty(explanation)
                .map_err(|error| Error::Write(std::io::Error::other(error)))?;
            written(writeln!(out, "{text}"))
        }
    }
}
