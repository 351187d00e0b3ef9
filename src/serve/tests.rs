use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

fn plan() -> GuestPlan {
    GuestPlan {
        serve: true,
        interface: "br0".parse().unwrap(),
        mac: crate::net::MacAddr([2, 0, 0, 0, 0, 1]),
        address: "192.168.254.2/30".parse().unwrap(),
        gateway: [192, 168, 254, 1].into(),
        routed: true,
        alias: None,
        gateway_mac: crate::net::MacAddr([2, 0, 0, 0, 0, 2]),
        hostname: "web".into(),
        dns: vec![],
        search: vec![],
        mtu: 1500,
        lease_secs: 3600,
        upstreams: vec![],
        ndots: 1,
        ipv6: None,
        resolv_conf: "/etc/resolv.conf".into(),
        notes: vec![],
    }
}

/// A guest must not lose its machine because a service of ours has a bug.
#[tokio::test(start_paused = true)]
async fn a_service_that_panics_or_ends_is_started_again_until_told_to_stop() {
    let (stop, stopping) = watch::channel(false);
    let (starts, binds) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (counted, bound) = (starts.clone(), binds.clone());
    let (health, now) = watch::channel(Services::default());
    let targets = watch::Sender::new(Target::one_guest(&plan(), 1).unwrap());
    let target = targets.subscribe();
    let kept = tokio::spawn(async move {
        let bind = |_: &On<dhcp::Task>| {
            bound.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let packets = Packets::here();
        let service = Service { name: "test", packets: &packets, pick: Target::dhcp, bind };
        let record = Record::new(&health, |services| &mut services.dhcp);
        restart_forever(service, record, None, target, stopping, |(), _| {
            let start = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                match start {
                    0 => panic!("a bug"),
                    1 => "a socket that failed",
                    _ => std::future::pending().await,
                }
            }
        })
        .await;
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((starts.load(Ordering::Relaxed), binds.load(Ordering::Relaxed)), (3, 3));
    let why = Health::Failing("a socket that failed".to_owned());
    assert_eq!(now.borrow().dhcp, why, "it runs again, and has not shown yet that it can");
    tokio::time::sleep(health::GOOD_RUN).await;
    assert_eq!(now.borrow().dhcp, Health::Serving);
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(1), kept).await.expect("it stops").unwrap();
}

/// Who is bound to a link that is gone, or serves what is not true any more, begins anew; others are not touched.
#[tokio::test(start_paused = true)]
async fn a_service_is_bound_anew_when_its_part_of_the_target_is_another() {
    let (_stop, stopping) = watch::channel(false);
    let first = Target::one_guest(&plan(), 1).unwrap();
    let targets = watch::Sender::new(first.clone());
    let target = targets.subscribe();
    let (bound, mut seen) = mpsc::unbounded_channel();
    let (health, now) = watch::channel(Services::default());
    tokio::spawn(async move {
        let bind = |on: &On<dhcp::Task>| {
            let _ = bound.send(on.link);
            let off = "";
            let gone = || socket::Error::Bind {
                what: "test",
                place: "br0".into(),
                off,
                source: io::ErrorKind::NotFound.into(),
            };
            if on.link == 3 { Err(gone().into()) } else { Ok(()) }
        };
        let packets = Packets::here();
        let service = Service { name: "test", packets: &packets, pick: Target::dhcp, bind };
        let record = Record::new(&health, |services| &mut services.dhcp);
        restart_forever(service, record, None, target, stopping, |(), _| {
            std::future::pending::<String>()
        })
        .await;
    });
    assert_eq!(seen.recv().await, Some(1));
    targets.send_modify(|target| target.dns = None);
    targets.send_replace(first.without_services());
    targets.send_replace(Target { link: 2, ..first.clone() });
    assert_eq!(seen.recv().await, Some(2), "the other service's part is none of its business");
    targets.send_replace(first.without_services());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(seen.try_recv().is_err(), "nothing is served");
    assert_eq!(now.borrow().dhcp, Health::Off);
    targets.send_replace(Target { link: 3, ..first.clone() });
    assert_eq!(seen.recv().await, Some(3));
    assert_eq!(seen.recv().await, Some(3), "again after a pause");
    assert!(matches!(&now.borrow().dhcp, Health::Failing(why) if why.contains("test")));
    let began = tokio::time::Instant::now();
    targets.send_replace(Target { link: 4, ..first });
    assert_eq!(seen.recv().await, Some(4));
    assert!(began.elapsed() < health::PAUSE, "at once, whatever the pause was");
    tokio::task::yield_now().await;
    assert_eq!(now.borrow().dhcp, Health::Serving);
}

/// Ends after each of these many seconds, then no more; when each run began, and whether it was said to serve just
/// before its end.
async fn lives(seconds: &[u64]) -> Vec<(u64, bool)> {
    let (_stop, stopping) = watch::channel(false);
    let (health, now) = watch::channel(Services::default());
    let targets = watch::Sender::new(Target::one_guest(&plan(), 1).unwrap());
    let target = targets.subscribe();
    let (began, mut begins) = mpsc::unbounded_channel();
    let mut lives = seconds.iter().copied().collect::<std::collections::VecDeque<u64>>();
    let count = lives.len();
    let kept = tokio::spawn(async move {
        let packets = Packets::here();
        let service = Service {
            name: "test",
            packets: &packets,
            pick: Target::dhcp,
            bind: |_: &On<dhcp::Task>| Ok(()),
        };
        let record = Record::new(&health, |services| &mut services.dhcp);
        let lives = std::sync::Mutex::new(std::mem::take(&mut lives));
        restart_forever(service, record, None, target, stopping, |(), _| {
            let life = lives.lock().unwrap().pop_front();
            let (began, now) = (began.clone(), now.clone());
            async move {
                let Some(life) = life else { return std::future::pending().await };
                let at = tokio::time::Instant::now();
                tokio::time::sleep(Duration::from_secs(life)).await;
                let _ = began.send((at, now.borrow().dhcp == Health::Serving));
                "an end"
            }
        })
        .await;
    });
    let start = tokio::time::Instant::now();
    let mut seen = Vec::new();
    for _ in 0..count {
        let (at, serves) = begins.recv().await.unwrap();
        seen.push((u64::try_from((at - start).as_millis()).unwrap(), serves));
    }
    kept.abort();
    seen
}

/// It read "serving" but for the tenth of a second between two lives.
#[tokio::test(start_paused = true)]
async fn a_service_that_dies_every_ten_seconds_is_failing_all_the_while() {
    let serves: Vec<bool> = lives(&[10; 8]).await.into_iter().map(|(_, serves)| serves).collect();
    assert_eq!(serves, [true, false, false, false, false, false, false, false]);
}

/// After seven ends in the life of a pod every later start waited for ten seconds.
#[tokio::test(start_paused = true)]
async fn a_good_run_makes_the_pause_short_again() {
    let seen = lives(&[0, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0]).await;
    let [.., before, good, after, _] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(good.0 - before.0 >= 10_000, "{seen:?}");
    assert_eq!((good.1, after.1), (true, true), "{seen:?}");
    assert!(after.0 - good.0 < 40_200, "{seen:?}");
}
