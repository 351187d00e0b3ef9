use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::net::{SocketAddrUnix, bind};
use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::*;
use crate::sys::local_socket::{dial, socket};

fn status() -> Status {
    Status {
        version: "1.2.3".to_owned(),
        verb: "run".to_owned(),
        ready: true,
        reasons: Vec::new(),
        guest: Some(Guest {
            phase: "running".to_owned(),
            reason: None,
            accelerator: Some("tcg".to_owned()),
            started_ms: Some(1_790_000_000_123),
            suspend: None,
            agent: Some(Agent {
                state: "answers".to_owned(),
                version: Some("7.2.22".to_owned()),
                os: Some("Debian GNU/Linux 12 (bookworm)".to_owned()),
                host_name: Some("we\u{1b}b".to_owned()),
                addresses: (1..=9).map(|last| [10, 0, 0, last].into()).collect(),
                heard_ms: Some(1_790_000_030_000),
            }),
        }),
        network: Some(Network {
            serving: Serving::Serving,
            reason: None,
            ipv4: Some("nat".to_owned()),
            ipv6: Some("own: 2001:db8::2, by fwd".to_owned()),
            own: vec!["2001:db8::2".parse().unwrap()],
            leased_ms: None,
            rules_restored: 2,
            links_mended: 1,
            addresses_changed: 0,
        }),
        fetch: None,
        unconfined: Vec::new(),
        findings: Vec::new(),
    }
}

fn answer(request: Request) -> std::future::Ready<Option<Vec<u8>>> {
    std::future::ready(match request {
        Request::Status => serde_json::to_vec(&status()).ok(),
        Request::Metrics(format) => Some(format.content_type().into()),
    })
}

#[tokio::test]
async fn what_is_told_is_what_is_heard_also_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
    for _ in 0..2 {
        // The first one's socket is still there for the second.
        let listener = listen(dir.path()).unwrap();
        let serving = tokio::spawn(serve(listener, answer));
        assert_eq!(ask(dir.path()).await.unwrap(), status());
        let mode = fs::metadata(dir.path().join(SOCKET)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        serving.abort();
        let _ = serving.await;
    }
    assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn each_is_told_what_it_asks_for_and_who_says_nothing_the_status() {
    let dir = tempfile::tempdir().unwrap();
    let _telling = tokio::spawn(serve(listen(dir.path()).unwrap(), answer));
    for format in [Format::OpenMetrics, Format::Text] {
        let text = ask_for(dir.path(), Request::Metrics(format)).await.unwrap();
        assert_eq!(text, format.content_type().as_bytes());
    }
    let say = async |words: &[u8]| {
        let mut stream = UnixStream::connect(dir.path().join(SOCKET)).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        text
    };
    let told = serde_json::to_vec(&status()).unwrap();
    assert_eq!(say(b"").await, told);
    assert_eq!(say(b"\n").await, told);
    for nonsense in [&b"quit\n"[..], b"metrics\n", &[b'x'; 1000]] {
        assert_eq!(say(nonsense).await, b"", "{nonsense:?}");
    }
}

/// A second start, by `docker exec` say, is refused for the disk's lock later.
#[tokio::test]
async fn a_launcher_that_runs_keeps_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let _telling = tokio::spawn(serve(listen(dir.path()).unwrap(), answer));
    assert!(matches!(listen(dir.path()), Err(Error::Taken(_))));
    assert!(ask(dir.path()).await.is_ok());
}

/// A listener that accepts nobody, and those that wait for it.
fn deaf(path: &Path) -> (OwnedFd, Vec<OwnedFd>) {
    let listener = socket().unwrap();
    bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let waiting = std::iter::from_fn(|| dial(path).ok()).collect();
    assert_eq!(dial(path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    (listener, waiting)
}

/// A link to a listener with a full backlog held the start, and its ear for SIGTERM, until that listener ended.
#[tokio::test]
async fn what_is_not_ours_in_the_sockets_place_is_replaced_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (dir.path().join(SOCKET), dir.path().join("elsewhere"));
    let _deaf = deaf(&elsewhere);
    let link = || std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    let name = || fs::hard_link(&elsewhere, &path).unwrap();
    let file = || fs::write(&path, "").unwrap();
    let strange = || {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        // Nobody but root can give one away.
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        }
    };
    for put in [&link as &dyn Fn(), &name, &file, &strange] {
        put();
        assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
        let serving = tokio::spawn(serve(listen(dir.path()).unwrap(), answer));
        assert_eq!(ask(dir.path()).await.unwrap(), status());
        serving.abort();
        let _ = serving.await;
        fs::remove_file(&path).unwrap();
    }
    assert!(fs::metadata(&elsewhere).unwrap().file_type().is_socket());
    fs::create_dir(&path).unwrap();
    assert!(matches!(listen(dir.path()), Err(Error::Listen { .. })));
}

/// It is there, if too busy to answer.
#[tokio::test]
async fn a_launcher_with_a_full_backlog_keeps_its_socket_and_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let _deaf = deaf(&dir.path().join(SOCKET));
    assert!(matches!(listen(dir.path()), Err(Error::Taken(_))));
    assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_end_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    assert!(matches!(ask(dir.path()).await, Err(Error::Unreachable { .. })));
}

#[test]
fn people_read_lines() {
    assert_eq!(
        status().to_string(),
        "berth run 1.2.3: ready\nguest    running, tcg\nagent    answers, Debian GNU/Linux 12 (bookworm), host we\\u001bb, 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8 and 1 more\nnetwork  serving; rules restored 2, links mended 1, addresses changed 0\nipv4     nat\nipv6     own: 2001:db8::2, by fwd"
    );
    let guest = Guest {
        phase: "paused".to_owned(),
        reason: Some("write on disk0: No space left on device".to_owned()),
        accelerator: Some("tcg".to_owned()),
        started_ms: None,
        agent: None,
        suspend: None,
    };
    let unconfined = vec!["QEMU: BERTH_CONFINE=off".to_owned()];
    let paused = Status { ready: false, guest: Some(guest), network: None, unconfined, ..status() };
    assert_eq!(
        paused.to_string(),
        "berth run 1.2.3: not ready\nguest    paused (write on disk0: No space left on device), tcg\nnot confined  QEMU: BERTH_CONFINE=off"
    );
    let fetching = |size| {
        let fetch = Some(Fetch { bytes: 7, size });
        Status { guest: None, network: None, fetch, ..status() }.to_string()
    };
    assert_eq!(fetching(Some(9)), "berth run 1.2.3: ready\nfetching 7 of 9 bytes of the image");
    assert_eq!(fetching(None), "berth run 1.2.3: ready\nfetching 7 bytes of the image");
    let network = Network {
        serving: Serving::Failing,
        reason: Some("dns: port 53 is\ntaken\u{1b}[2J".to_owned()),
        ..Network::default()
    };
    let failing = Status {
        verb: "net".to_owned(),
        ready: false,
        guest: None,
        network: Some(network),
        ..status()
    };
    assert_eq!(
        failing.to_string(),
        "berth net 1.2.3: not ready\nnetwork  failing (dns: port 53 is\\ntaken\\u001b[2J); rules restored 0, links mended 0, addresses changed 0"
    );
}
