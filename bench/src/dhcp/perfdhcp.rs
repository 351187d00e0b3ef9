//! The same server and rate by Kea's perfdhcp, which speaks as a relay: its means beside ours.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::crowd::Crowd;
use super::four::{Four, resolve};
use super::link::Link;
use super::load::{Arrival, Exchange, Load};
use super::server::{self, Server};
use super::wire;
use crate::netns::Pair;
use crate::{Error, at};

/// Means in milliseconds.
#[derive(Debug, Serialize)]
pub struct Agreement {
    pub server: &'static str,
    pub rate: f64,
    pub ours: (f64, f64),
    pub perfdhcp: (f64, f64),
    /// Between the means of a whole exchange, which is both legs: a share of perfdhcp's.
    pub distance: f64,
}

pub fn compare(server: Server, berth: &Path, rate: f64, seconds: f64) -> Result<Agreement, Error> {
    let theirs = {
        let pair = Pair::new()?;
        let _running = server::start(server, &pair, berth, "")?;
        let words = format!(
            "timeout 120 perfdhcp -4 -l c0 -r {rate:.0} -R 50000 -p {:.0} {}",
            seconds.ceil().max(1.0),
            server::ADDRESS
        );
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let output = at("perfdhcp (Debian package kea-admin)", pair.in_client(&words).output())?;
        means(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            Error::Step(format!("perfdhcp: {}", String::from_utf8_lossy(&output.stderr).trim()))
        })?
    };
    let pair = Pair::new()?;
    let _running = server::start(server, &pair, berth, "")?;
    let outcome = pair.driving(|| {
        let mut link = Link::open("c0")?;
        let own = (server::RELAY, link.mac);
        let mac = resolve(&mut link, own, server::ADDRESS)?;
        let path = wire::Path::Relay { own, server: (server::ADDRESS, mac) };
        Crowd::new(&mut link, Four(path)).run(&Load {
            exchange: Exchange::Full,
            arrival: Arrival::Open(rate),
            clients: 50_000,
            first: 1,
            warmup: Duration::ZERO,
            duration: Duration::from_secs_f64(seconds),
            timeout: Duration::from_secs(1),
            retransmit: false,
            most: None,
        })
    })?;
    let ours = (outcome.offer.mean() / 1e6, outcome.ack.mean() / 1e6);
    let whole = |(offer, ack): (f64, f64)| offer + ack;
    let distance = (whole(ours) - whole(theirs)).abs() / whole(theirs).max(1e-9);
    Ok(Agreement { server: server.name(), rate, ours, perfdhcp: theirs, distance })
}

/// `avg delay: 0.143 ms`, of both legs.
fn means(text: &str) -> Option<(f64, f64)> {
    let mut found = text.lines().filter_map(|line| {
        line.trim().strip_prefix("avg delay:")?.split_whitespace().next()?.parse().ok()
    });
    Some((found.next()?, found.next()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_means_of_both_legs_are_read() {
        let text = "***Statistics for: DISCOVER-OFFER***\nmin delay: 0.1 ms\navg delay: 0.151 ms\n\
                    ***Statistics for: REQUEST-ACK***\navg delay: 0.2 ms\n";
        assert_eq!(super::means(text), Some((0.151, 0.2)));
        assert_eq!(super::means(""), None);
    }
}
