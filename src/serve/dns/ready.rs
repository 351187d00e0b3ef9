//! What there is at the sockets of each family; of one that is not served there is nothing, ever.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep_until;

use crate::proto::dns::LARGEST_QUESTION;
use crate::sys::socket::{Dns, Dns4};

async fn accept(
    listener: &TcpListener,
    again: Option<Instant>,
) -> io::Result<(TcpStream, SocketAddr)> {
    if let Some(again) = again {
        sleep_until(again.into()).await;
    }
    listener.accept().await
}

pub(super) async fn readable(four: Option<&Dns4>) -> io::Result<()> {
    match four {
        Some(four) => four.udp.readable().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn accept4(
    sockets: &Dns,
    again: Option<Instant>,
) -> io::Result<(TcpStream, SocketAddr)> {
    match &sockets.four {
        Some(four) => accept(&four.tcp, again).await,
        None => std::future::pending().await,
    }
}

/// The next question by IPv6.
pub(super) async fn next6(sockets: &Dns) -> io::Result<(SocketAddr, Vec<u8>)> {
    let Some(six) = &sockets.six else { return std::future::pending().await };
    let mut bytes = vec![0; LARGEST_QUESTION + 1];
    let (length, from) = six.udp.recv_from(&mut bytes).await?;
    bytes.truncate(length);
    Ok((from, bytes))
}

pub(super) async fn accept6(
    sockets: &Dns,
    again: Option<Instant>,
) -> io::Result<(TcpStream, SocketAddr)> {
    match &sockets.six {
        Some(six) => accept(&six.tcp, again).await,
        None => std::future::pending().await,
    }
}
