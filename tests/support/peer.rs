//! Another pod: what it gets from a guest over TCP, UDP and ICMP.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::support::{checked, within};

pub fn tcp(from: &str, to: impl Into<IpAddr>, port: u16, send: &str) -> String {
    let (to, send) = (to.into(), send.to_owned());
    within(from, move || {
        let mut stream =
            TcpStream::connect_timeout(&SocketAddr::from((to, port)), Duration::from_secs(10))
                .unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(send.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = String::new();
        stream.read_to_string(&mut got).unwrap();
        got
    })
}

/// A line for the guest's shell, and what it says.
pub fn shell(from: &str, to: impl Into<IpAddr>, line: &str) -> String {
    tcp(from, to, 2323, &format!("{line}\nexit\n"))
}

/// TCP, UDP and ICMP from another network: who the guest says it is.
pub fn answers(from: &str, address: Ipv4Addr, to: Ipv4Addr) -> String {
    let hello = tcp(from, to, 8080, "");
    assert!(hello.contains(&format!("you are {address}:")), "{hello}");
    let echo = within(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut buffer = [0; 64];
        (0..3).find_map(|_| {
            socket.send_to(b"over udp", (to, 7)).unwrap();
            socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
        })
    });
    assert_eq!(echo.as_deref(), Some(&b"over udp"[..]));
    let mut ping = Command::new("nsenter");
    ping.args([
        &format!("--net={from}"),
        "ping",
        "-c",
        "2",
        "-i",
        "0.2",
        "-W",
        "2",
        &to.to_string(),
    ]);
    checked(&mut ping);
    hello
}
