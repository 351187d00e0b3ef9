//! The two halves of one pod find each other: `berth net` says how it serves, `berth vm` listens.
//!
//! They meet on an abstract socket (`unix(7)`), and such names belong to the network namespace. Whoever hears an answer
//! is where the network is served. A container's old namespace, in which its restart left the guest behind, still has the
//! bridge and the tap, but no answer: nothing else tells the two apart from inside.
//!
//! Beside it is a socket of the same kind for the page of metrics: text, and the end.
//!
//! One connection for each listener; one JSON object ([`Network`]) a line, first at once, then at each change. Nothing is
//! read from it: `berth net` can be asked, not told.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::exit::{Code, Coded};
use crate::net::IfName;
use crate::status::Network;

/// Listeners at a time; one is what a pod has.
const MAX_LISTENERS: usize = 8;
/// A line is some hundred octets.
const MAX_LINE: u64 = 16 << 10;
/// Octets of a page of metrics; it has some 15 thousand.
const MAX_PAGE: u64 = 256 << 10;
/// A listener that does not read loses its connection.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A line at least so often; a network half that says nothing for [`SILENCE`] hangs.
const HEARTBEAT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(25);
/// Between two looks for the other half.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// The two sides cannot meet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another `berth net` serves {0} in this network namespace: end it first")]
    Taken(IfName),
    #[error(
        "process {pid} of uid {uid}, which is no `berth net`, holds the socket of {tap}: end it"
    )]
    Squatted { tap: IfName, pid: i32, uid: u32 },
    #[error("listening for the half with the guest")]
    Listen(#[source] io::Error),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Taken(_) | Self::Squatted { .. } | Self::Listen(_) => Code::Serve,
        }
    }
}

/// The abstract name, with its leading zero octet.
fn name_of(tap: &IfName) -> String {
    format!("\0berth-net/{tap}")
}

/// The same for the page of metrics.
fn name_of_page(tap: &IfName) -> String {
    format!("\0berth-net-metrics/{tap}")
}

/// Tells the page of metrics to the half with the guest, whose uid is one of `readers`, for as long as the task lives. A name
/// that is taken costs the page, and nothing else.
pub async fn serve_page<F>(tap: IfName, readers: Vec<u32>, page: impl Fn() -> F)
where
    F: Future<Output = String> + Send + 'static,
{
    let listener = match UnixListener::bind(name_of_page(&tap)) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "the half with the guest gets no metrics of this one");
            return;
        }
    };
    let mut answers = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if answers.len() < MAX_LISTENERS => accepted,
            Some(_) = answers.join_next() => continue,
        };
        let Ok((mut stream, _)) = accepted else {
            // Out of descriptors, at most: that passes.
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let may = |uid| is_ours(uid) || readers.contains(&uid);
        if stream.peer_cred().is_ok_and(|peer| may(peer.uid())) {
            let page = page();
            answers.spawn(async move {
                let page = page.await;
                let _ = timeout(TIMEOUT, stream.write_all(page.as_bytes())).await;
            });
        }
    }
}

/// The network half's page; None: there is none, or it is not believed, as in [`follow`].
pub async fn page(tap: IfName, guest: u32) -> Option<String> {
    let stream = UnixStream::connect(name_of_page(&tap)).await.ok()?;
    if !is_believed(&stream, guest) {
        return None;
    }
    let mut text = Vec::new();
    let mut stream = stream.take(MAX_PAGE);
    timeout(TIMEOUT, stream.read_to_end(&mut text)).await.ok()?.ok()?;
    String::from_utf8(text).ok().filter(|text| !text.is_empty())
}

/// Root, or our uid and not QEMU's.
fn is_believed(stream: &UnixStream, guest: u32) -> bool {
    let believed = |uid| uid == 0 || (is_ours(uid) && uid != guest);
    stream.peer_cred().is_ok_and(|peer| believed(peer.uid()))
}

/// Takes the name of the network half for this tap, in this network namespace. It is free when the process ends, however
/// it ends.
pub async fn listen(tap: &IfName) -> Result<UnixListener, Error> {
    match UnixListener::bind(name_of(tap)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(holder(tap).await),
        bound => bound.map_err(Error::Listen),
    }
}

async fn holder(tap: &IfName) -> Error {
    match UnixStream::connect(name_of(tap)).await.and_then(|stream| stream.peer_cred()) {
        Ok(peer) if !is_ours(peer.uid()) => Error::Squatted {
            tap: tap.clone(),
            pid: peer.pid().unwrap_or_default(),
            uid: peer.uid(),
        },
        _ => Error::Taken(tap.clone()),
    }
}

/// The uids that a network half may have: root's, which capabilities go with, or this process's.
fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Tells everybody who connects, for as long as the task lives.
pub async fn serve(listener: UnixListener, network: watch::Receiver<Network>) {
    let mut listeners = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = listeners.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) if listeners.len() < MAX_LISTENERS => {
                listeners.spawn(serve_one(stream, network.clone()));
            }
            Ok(_) => {}
            // Out of descriptors, at most: that passes.
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn serve_one(mut stream: UnixStream, mut network: watch::Receiver<Network>) {
    loop {
        let Ok(mut line) = serde_json::to_vec(&*network.borrow_and_update()) else { return };
        line.push(b'\n');
        if !matches!(timeout(TIMEOUT, stream.write_all(&line)).await, Ok(Ok(()))) {
            return;
        }
        let mut nothing = [0];
        tokio::select! {
            changed = network.changed() => if changed.is_err() { return },
            () = sleep(HEARTBEAT) => {}
            // Only its end is of interest.
            _ = stream.read(&mut nothing) => return,
        }
    }
}

/// Follows the network half of this namespace, for as long as the task lives: None while there is none, or one that hangs.
/// It is root's or of our uid. One that runs as `guest`, QEMU's uid, is not believed, unless that is root's: a guest that
/// broke out could claim the name.
pub async fn follow(tap: IfName, guest: u32, heard: watch::Sender<Option<Network>>) {
    let name = name_of(&tap);
    loop {
        if let Ok(stream) = UnixStream::connect(&name).await
            && is_believed(&stream, guest)
        {
            listen_to(stream, &heard).await;
        }
        heard.send_if_modified(|heard| heard.take().is_some());
        sleep(RECONNECT_INTERVAL).await;
    }
}

/// Hears one network half out, until it ends, hangs or says what is no status.
pub async fn listen_to(stream: impl AsyncRead + Unpin, heard: &watch::Sender<Option<Network>>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = async { (&mut stream).take(MAX_LINE).read_until(b'\n', &mut line).await };
        match timeout(SILENCE, read).await {
            Ok(Ok(1..)) => {}
            _ => return,
        }
        let Ok(network) = serde_json::from_slice::<Network>(&line) else { return };
        heard.send_if_modified(|heard| heard.replace(network) != *heard);
    }
}

/// Passes on which of the pod's addresses are the guest's own. While nobody says so they stay as they were.
pub async fn own(mut heard: watch::Receiver<Option<Network>>, own: watch::Sender<Vec<IpAddr>>) {
    while heard.changed().await.is_ok() {
        let now = heard.borrow_and_update().as_ref().map(|network| network.own.clone());
        if let Some(now) = now {
            own.send_if_modified(|own| std::mem::replace(own, now.clone()) != now);
        }
    }
}

/// Tells once when the network half is gone, and once when it is back. Resolves when it stayed away for `limit`.
/// `has_uplink` says whether this namespace still has the pod's interface.
pub async fn watch_over(
    mut heard: watch::Receiver<Option<Network>>,
    limit: Option<Duration>,
    has_uplink: impl AsyncFn() -> bool,
) {
    // At a start either half may be the first.
    let mut grace = Duration::from_secs(30);
    loop {
        if !comes(&mut heard, grace).await {
            log_gone(has_uplink().await);
            if !comes(&mut heard, limit.unwrap_or(Duration::MAX)).await {
                return;
            }
            tracing::info!("the network half is back");
        }
        if heard.wait_for(Option::is_none).await.is_err() {
            return;
        }
        // One that is started again at once is no event.
        grace = Duration::from_secs(2);
    }
}

/// Whether there is a network half within this time.
async fn comes(heard: &mut watch::Receiver<Option<Network>>, within: Duration) -> bool {
    timeout(within, heard.wait_for(Option::is_some)).await.is_ok_and(|heard| heard.is_ok())
}

fn log_gone(has_uplink: bool) {
    if has_uplink {
        tracing::warn!(
            "no `berth net` in this network namespace: no DHCP, DNS or repairs for the guest, and not ready until there is one"
        );
    } else {
        tracing::error!(
            "this network namespace has no uplink and no `berth net` any more: its container was started again and has \
             another one, which the guest is not in; start this container again (BERTH_ON_NET_LOST=exit ends it by itself)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Serving;

    fn network(rules_restored: u64) -> Network {
        Network { serving: Serving::Serving, rules_restored, ..Network::default() }
    }

    /// A tap whose name no other test has.
    fn tap(name: &str) -> IfName {
        format!("{name}{}", std::process::id() % 100_000).parse().unwrap()
    }

    async fn until(heard: &mut watch::Receiver<Option<Network>>, wanted: Option<Network>) {
        let seen = timeout(Duration::from_secs(5), heard.wait_for(|heard| *heard == wanted)).await;
        assert!(seen.is_ok(), "{wanted:?} was not heard");
    }

    #[tokio::test]
    async fn each_change_is_heard_and_the_end_and_the_next_one() {
        let tap = tap("a");
        let (to, mut heard) = watch::channel(None);
        let following = tokio::spawn(follow(tap.clone(), 65_534, to));
        for round in 0..2 {
            let (network_is, network_rx) = watch::channel(network(round));
            let telling = tokio::spawn(serve(listen(&tap).await.unwrap(), network_rx));
            assert!(matches!(listen(&tap).await, Err(Error::Taken(_))), "one at a time");
            until(&mut heard, Some(network(round))).await;
            network_is.send_replace(network(round + 10));
            until(&mut heard, Some(network(round + 10))).await;
            telling.abort();
            let _ = telling.await;
            until(&mut heard, None).await;
        }
        following.abort();
    }

    #[tokio::test]
    async fn one_that_runs_as_the_guest_is_not_believed() {
        let tap = tap("b");
        let ours = rustix::process::getuid().as_raw();
        let (_network, network_rx) = watch::channel(network(0));
        let _telling = tokio::spawn(serve(listen(&tap).await.unwrap(), network_rx));
        let (to, mut heard) = watch::channel(None);
        let following = tokio::spawn(follow(tap.clone(), ours, to));
        let believed =
            timeout(RECONNECT_INTERVAL * 3, heard.wait_for(Option::is_some)).await.is_ok();
        assert_eq!(believed, ours == 0);
        following.abort();
    }

    #[tokio::test]
    async fn listeners_beyond_the_limit_and_those_that_do_not_read_hold_nobody_up() {
        let tap = tap("c");
        let (network_is, network_rx) = watch::channel(network(0));
        let _telling = tokio::spawn(serve(listen(&tap).await.unwrap(), network_rx));
        let mut idle = Vec::new();
        for _ in 0..MAX_LISTENERS - 1 {
            idle.push(UnixStream::connect(name_of(&tap)).await.unwrap());
        }
        let (to, mut heard) = watch::channel(None);
        let following = tokio::spawn(follow(tap.clone(), 65_534, to));
        until(&mut heard, Some(network(0))).await;
        let mut refused = UnixStream::connect(name_of(&tap)).await.unwrap();
        assert!(matches!(refused.read(&mut [0; 8]).await, Ok(0) | Err(_)), "one too many");
        network_is.send_replace(network(1));
        until(&mut heard, Some(network(1))).await;
        // Room again, once they have gone.
        drop(idle);
        following.abort();
        let (to, mut heard) = watch::channel(None);
        let _following = tokio::spawn(follow(tap, 65_534, to));
        until(&mut heard, Some(network(1))).await;
    }

    /// One that is stopped keeps its socket open and says nothing.
    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_none_and_one_with_nothing_new_is_one() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (to, heard) = watch::channel(None);
        theirs
            .write_all(&[&serde_json::to_vec(&network(1)).unwrap()[..], b"\n"].concat())
            .await
            .unwrap();
        timeout(SILENCE * 2, listen_to(ours, &to)).await.expect("it was given up");
        assert_eq!(*heard.borrow(), Some(network(1)), "it was heard before");

        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_network, network_rx) = watch::channel(network(2));
        let telling = tokio::spawn(serve_one(theirs, network_rx));
        assert!(
            timeout(SILENCE * 4, listen_to(ours, &to)).await.is_err(),
            "it says so from time to time"
        );
        telling.abort();
    }

    #[tokio::test]
    async fn what_is_no_status_is_no_network_half() {
        for said in [&b"\n"[..], b"{}\n", b"{\"serving\":\"of", &[b'x'; 40_000]] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (to, heard) = watch::channel(None);
            let writing = tokio::spawn(async move {
                let _ = theirs.write_all(said).await;
            });
            timeout(Duration::from_secs(5), listen_to(ours, &to)).await.unwrap();
            assert_eq!(*heard.borrow(), None, "{said:?}");
            let _ = writing.await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_given_up_when_it_stayed_away_for_the_limit_and_not_before() {
        let (to, heard) = watch::channel(Some(network(0)));
        let limit = Duration::from_secs(30);
        let mut watching = tokio::spawn(watch_over(heard, Some(limit), async || true));
        for away in [1, 20] {
            to.send_replace(None);
            assert!(timeout(Duration::from_secs(away), &mut watching).await.is_err());
            to.send_replace(Some(network(0)));
            assert!(timeout(Duration::from_secs(100), &mut watching).await.is_err(), "it was back");
        }
        to.send_replace(None);
        timeout(limit + Duration::from_secs(3), watching).await.unwrap().unwrap();
    }
}
