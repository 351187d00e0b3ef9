//! Sockets that wait for readers of the page, and how many are let in.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer;
use super::connection::{Connection, Shared};
use super::tls::Tls;
use super::{Error, Stream};

/// At once, of the page; as many of the metrics. What is open behind a WebSocket counts.
pub(super) const MAX_CONNECTIONS: usize = 16;
/// Told that there are too many, at once.
const MAX_TURNED_AWAY: usize = 16;
/// Of a request: its first line and headers. The least that hyper takes.
const MAX_HEAD_BYTES: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// For a handshake of TLS; for a head, from the connection or the last answer on.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// What was sent and is not taken, by a peer that is gone or does not read.
const STALLED: Duration = Duration::from_secs(30);
/// Those that wait to be accepted (listen(2)).
const BACKLOG: i32 = 64;

const FULL: &str = "more connections than are served at once\n";

/// Waits on these addresses. One that this kernel has no IPv6 for is left out.
pub(super) fn bind(
    addresses: &[SocketAddr],
    what: &'static str,
    variable: &'static str,
) -> Result<Vec<TcpListener>, Error> {
    let mut listeners = Vec::new();
    for address in addresses {
        match listen(*address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.is_ipv6() && has_no_ipv6(&error) => {}
            Err(source) => return Err(Error::Bind { address: *address, what, variable, source }),
        }
    }
    Ok(listeners)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    [Some(libc::EAFNOSUPPORT), Some(libc::EADDRNOTAVAIL)].contains(&error.raw_os_error())
}

/// The pod's address may come back later than we: bound all the same (IP_FREEBIND, ip(7)).
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match address.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() => socket.set_freebind_v4(true)?,
        IpAddr::V6(ip) => {
            socket.set_only_v6(true)?;
            if !ip.is_loopback() {
                socket.set_freebind_v6(true)?;
            }
        }
        IpAddr::V4(_) => {}
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Answers whoever comes, for as long as the runtime lives.
pub(super) fn serve(
    listeners: Vec<TcpListener>,
    tls: Option<Tls>,
    probes_alone: bool,
    shared: &Arc<Shared>,
) {
    let door = Arc::new(Counter {
        room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        turned_away: Arc::new(Semaphore::new(MAX_TURNED_AWAY)),
        tls,
        probes_alone,
    });
    for listener in listeners {
        tokio::spawn(accept(listener, door.clone(), shared.clone()));
    }
}

/// How many there are, of all addresses of one kind.
struct Counter {
    room: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    tls: Option<Tls>,
    probes_alone: bool,
}

async fn accept(listener: TcpListener, door: Arc<Counter>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, at most: that passes.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let Ok(own) = stream.local_addr() else { continue };
        patience(&stream);
        let Ok(room) = door.room.clone().try_acquire_owned() else {
            turn_away(stream, peer, &door);
            continue;
        };
        let connection = Connection {
            shared: shared.clone(),
            peer,
            is_loopback: own.ip().is_loopback(),
            probes_alone: door.probes_alone,
            room: Arc::new(room),
        };
        let door = door.clone();
        tokio::spawn(async move {
            match &door.tls {
                None => answer(stream, connection).await,
                Some(tls) => {
                    let accepted = timeout(HEAD_WITHIN, tls.acceptor().accept(stream)).await;
                    if let Ok(Ok(stream)) = accepted {
                        answer(stream, connection).await;
                    }
                }
            }
        });
    }
}

/// The kernel ends a connection whose peer is gone, or takes nothing (tcp(7)): no buffer of ours waits for it longer.
fn patience(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(STALLED).with_interval(STALLED / 3);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(STALLED));
    let _ = stream.set_nodelay(true);
}

async fn answer(stream: impl Stream + 'static, connection: Connection) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let service = service_fn(move |request| {
        let connection = connection.clone();
        async move { answer::answer(request, connection).await }
    });
    let served = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the page ended");
    }
}

/// Told why, where that can be told at once; else closed.
fn turn_away(mut stream: TcpStream, peer: SocketAddr, door: &Counter) {
    tracing::debug!(%peer, "more than {MAX_CONNECTIONS} connections: one was turned away");
    let Ok(place) = door.turned_away.clone().try_acquire_owned() else { return };
    if door.tls.is_some() {
        return;
    }
    tokio::spawn(async move {
        let _place: OwnedSemaphorePermit = place;
        let told = async {
            let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nCache-Control: no-store";
            let length = FULL.len();
            let answer =
                format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{FULL}");
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            // Closed with something unread, it would be reset before the answer is read (RFC 9112 §9.6).
            let mut chunk = [0; 1024];
            while stream.read(&mut chunk).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(Duration::from_secs(1), told).await;
    });
}
