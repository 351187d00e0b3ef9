//! `berth serve`.

use berth::config::reader::environment;
use berth::config::serve::ServeOptions;
use berth::exit::{Code, Coded, Failure, error_chain};
use berth::facts::Interface;
use berth::serve::Follower;
use berth::supervise::Signals;
use berth::sys::link::Links;
use berth::sys::notify::{self, READY, STOPPING};
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
    let follower = Follower::new(&links, options.address, &found, plan).map_err(|first| {
        mistakes(&plan::serve::mistakes(first, options, &found.interface, &resolver))
    })?;
    warn(confine::ourselves(None).as_slice());
    let (stop, stopping) = watch::channel(false);
    let serving = serve::serve_standalone(follower, stopping, || tell_manager(READY));
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended?,
        () = signals.asked_to_stop() => {
            tell_manager(STOPPING);
            let _ = stop.send(true);
            serving.await?;
        }
    }
    Ok(Code::Success)
}

/// systemd, or whoever started us and wants to know (sd_notify(3)); nobody, most often.
fn tell_manager(state: &str) {
    let Some(socket) = environment(notify::VARIABLE).filter(|socket| !socket.is_empty()) else {
        return;
    };
    if let Err(error) = notify::notify(&socket, state) {
        tracing::warn!(%error, state, "the service manager at NOTIFY_SOCKET cannot be told");
    }
}

/// Each on a line of its own; the first decides what it ends with.
fn mistakes(mistakes: &[plan::serve::Error]) -> Failure {
    let code = mistakes.first().map_or(Code::Usage, Coded::code);
    let lines: Vec<String> = mistakes.iter().map(|mistake| error_chain(mistake)).collect();
    Failure::new(code, lines.join("\n"))
}
