//! `berth nft`.

use std::time::Duration;

use berth::cli::nft::{Inspect, Where};
use berth::config::Options;
use berth::exit::{Code, Failure};
use berth::inspect;
use berth::plan::nat::{Abilities, Indices, for_kernel};
use berth::plan::{Attached, NetPlan};
use berth::supervise::Signals;
use berth::sys::link::Links;
use berth::sys::{netns, probe};
use tokio::sync::oneshot;

use super::configure;

/// How long a verb that was told to end may take.
const ENDS_WITHIN: Duration = Duration::from_millis(500);

/// Before there are other threads: they are where this one is.
pub fn enter(place: &Where) -> Result<(), Failure> {
    let process = place.pid.map(netns::of_process);
    match place.netns.as_ref().or(process.as_ref()) {
        Some(path) => Ok(netns::enter(path)?),
        None => Ok(()),
    }
}

/// Whether the rules are as planned: by the network's plan alone, which the half without a disk has as well.
pub async fn check(options: &Options) -> Result<Code, Failure> {
    let links = Links::open()?;
    let config = configure(options)?;
    let facts = probe::settled_net_facts(&config, &links).await?;
    let plan = NetPlan::new(&config, &facts, Attached::Elsewhere)?;
    // A link that is not there has no number, and rules that name none are not as planned.
    let index = async |name| Ok::<_, Failure>(links.index(name).await?.unwrap_or(0));
    let indices = Indices {
        bridge: index(&plan.link.bridge.name).await?,
        tap: index(&plan.link.tap.name).await?,
    };
    let planned = for_kernel(&plan, Abilities::ALL, indices);
    Ok(inspect::check::run(&planned, &mut std::io::stdout().lock()).await?)
}

/// What is loaded.
pub async fn look(verb: &Inspect) -> Result<Code, Failure> {
    if verb.goes_on() {
        return follow(verb.clone()).await;
    }
    Ok(inspect::run(verb, &mut std::io::stdout().lock()).await?)
}

/// `nft watch` and `trace`, which go on until they are told to end: on a thread of their own, since whoever reads them may
/// stop reading.
async fn follow(verb: Inspect) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let (done, mut looked) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(Code::Machine, error.to_string()));
        let mut out = std::io::stdout().lock();
        let look =
            |runtime: tokio::runtime::Runtime| Ok(runtime.block_on(inspect::run(&verb, &mut out))?);
        let _ = done.send(runtime.and_then(look));
    });
    let ended = |ended: Result<_, _>| {
        ended.unwrap_or_else(|_| Err(Failure::new(Code::Machine, "the verb ended unexpectedly")))
    };
    tokio::select! {
        result = &mut looked => return ended(result),
        () = signals.asked_to_stop() => {}
    }
    // It has heard the signal as well, and ends by itself where it is not kept from it.
    match tokio::time::timeout(ENDS_WITHIN, looked).await {
        Ok(result) => ended(result),
        Err(_) => {
            tracing::warn!("stopped early: stdout was not read, or the kernel was slow");
            Ok(Code::Success)
        }
    }
}
