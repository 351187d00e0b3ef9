//! Questions on their way to name servers: each a task of its own, from a port the kernel picks at random.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::proto::dns::Over;
use crate::sys::socket::upstream;

/// No server sends more over UDP: RFC 6891 §6.2.5 suggests 4096, most send 1232.
const LARGEST_REPLY: usize = 16 << 10;
/// Datagrams looked at for one question: more are a flood.
const MAX_REPLIES: usize = 16;
/// Longer than the core waits for any server.
const ASK: Duration = Duration::from_secs(5);
/// Servers asked over TCP at once: each answer has 64 KiB at most.
pub(crate) const MAX_OVER_TCP: usize = 64;

/// What came of asking.
#[derive(Debug)]
pub(crate) enum UpstreamEvent {
    Reply { ask: u64, bytes: Vec<u8> },
    Failed { ask: u64 },
}

/// Asks one server, and tells what it says.
pub(crate) async fn ask_server<T: From<UpstreamEvent>>(
    sender: mpsc::Sender<T>,
    over_tcp: Arc<Semaphore>,
    ask: u64,
    server: SocketAddr,
    over: Over,
    bytes: Vec<u8>,
) {
    let asked = async {
        match over {
            Over::Udp => over_udp(&sender, ask, server, &bytes).await,
            Over::Tcp => {
                let _place = over_tcp.acquire().await.map_err(io::Error::other)?;
                ask_over_tcp(&sender, ask, server, &bytes).await
            }
        }
    };
    if !matches!(timeout(ASK, asked).await, Ok(Ok(()))) {
        let _ = sender.send(UpstreamEvent::Failed { ask }.into()).await;
    }
}

async fn over_udp<T: From<UpstreamEvent>>(
    sender: &mpsc::Sender<T>,
    ask: u64,
    server: SocketAddr,
    bytes: &[u8],
) -> io::Result<()> {
    let socket = upstream(server).await?;
    socket.send(bytes).await?;
    for _ in 0..MAX_REPLIES {
        let bytes = received(&socket).await?;
        if sender.send(UpstreamEvent::Reply { ask, bytes }.into()).await.is_err() {
            return Ok(());
        }
    }
    Err(io::Error::other("a flood of answers"))
}

/// There is memory for it when it is there.
async fn received(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        let mut buffer = vec![0; LARGEST_REPLY];
        match socket.try_recv(&mut buffer) {
            Ok(length) => return Ok(buffer.get(..length).unwrap_or_default().to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn ask_over_tcp<T: From<UpstreamEvent>>(
    sender: &mpsc::Sender<T>,
    ask: u64,
    server: SocketAddr,
    bytes: &[u8],
) -> io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let bytes = read_message(&mut stream).await?;
    let _ = sender.send(UpstreamEvent::Reply { ask, bytes }.into()).await;
    Ok(())
}

async fn read_message(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
