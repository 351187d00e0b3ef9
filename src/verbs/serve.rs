//! `berth serve`.

use berth::config::serve::ServeOptions;
use berth::exit::{Code, Failure};
use berth::facts::Interface;
use berth::serve::Follower;
use berth::supervise::Signals;
use berth::sys::link::Links;
use berth::sys::probe;
use berth::{confine, plan, serve};
use tokio::sync::watch;

use super::warn;

/// Config → facts → plan → serve.
pub async fn run(options: &ServeOptions) -> Result<Code, Failure> {
    let mut signals = Signals::listen()?;
    let links = Links::open()?;
    let found = probe::served_link(&options.interface, &links).await?;
    let found = found.ok_or_else(|| probe::Error::NoInterface(options.interface.clone()))?;
    let resolver = probe::resolver(&options.resolv_conf)?;
    let plan = |interface: &Interface| plan::serve::plan(options, interface, &resolver);
    let follower = Follower::new(&links, options.address, &found, plan)?;
    warn(confine::ourselves(None).as_slice());
    let (stop, stopping) = watch::channel(false);
    let serving = serve::standing(follower, stopping);
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended?,
        () = signals.asked_to_stop() => {
            let _ = stop.send(true);
            serving.await?;
        }
    }
    Ok(Code::Success)
}
