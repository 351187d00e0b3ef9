use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use super::*;
use crate::net::MacAddr;
use crate::proto::leases::{ClientId, Hardware};

const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    leases: Leases,
    now: Now,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let now = Now { monotonic: Instant::now(), wall };
        let (path, settings) = (dir.path().join("leases"), Settings::new(Vec::new()));
        let four = Some((&settings, 1000));
        let what = Keeping { file: Some(&path), sync: false, four, six: None };
        let (store, both) = Store::open(&what, now).unwrap();
        Self { dir, store: store.unwrap(), leases: both.four, now }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("leases")
    }

    fn bind(&mut self, number: u32) {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + number % 100);
        let mac = MacAddr([2, 0, 0, 0, 0, u8::try_from(number % 100).unwrap()]);
        let client = ClientId::new(&(number % 100).to_be_bytes());
        let hardware = Hardware { kind: 1, address: mac };
        assert!(self.leases.bind(
            self.now,
            address,
            &client,
            hardware,
            Some("some-name"),
            Some(HOUR)
        ));
    }

    async fn write(&mut self) -> bool {
        self.store.write(&mut self.leases, self.now).await
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall += time;
    }

    /// What a next start knows is what is known now.
    fn check(&self) {
        let (found, recovered) = Leases::recover(self.now, &fs::read(self.path()).unwrap(), 1000);
        let listed = |leases: &Leases| {
            leases.iter().map(|it| (it.address, it.state, it.client, it.name)).collect::<Vec<_>>()
        };
        assert_eq!(listed(&found), listed(&self.leases));
        // One line may be cut where a copy stopped.
        assert!(recovered.damaged <= 1, "{recovered:?}");
        let ends = |leases: &Leases| {
            let left =
                |until: Instant| until.saturating_duration_since(self.now.monotonic).as_secs();
            leases.iter().map(|it| it.until.map(left)).collect::<Vec<_>>()
        };
        for (found, known) in ends(&found).into_iter().zip(ends(&self.leases)) {
            assert!(found.unwrap().abs_diff(known.unwrap()) <= 3, "{found:?} {known:?}");
        }
    }

    /// Until the file is short, with requests between any two steps; it says the same after each of them.
    async fn shorten(&mut self) -> usize {
        for step in 1..10_000 {
            self.bind(u32::try_from(step * 7).unwrap());
            assert!(self.write().await);
            self.store.tidy(&self.leases, self.now).await;
            self.check();
            if !self.store.is_rewriting() {
                return step;
            }
            tokio::task::yield_now().await;
        }
        panic!("it never ends");
    }
}

#[tokio::test]
async fn a_file_that_is_long_becomes_short_wherever_it_is() {
    for in_place in [false, true] {
        let mut bench = Bench::new();
        bench.store.in_place = in_place;
        let inode = fs::metadata(bench.path()).unwrap().ino();
        for round in 0..3 {
            for number in 0..5000 {
                bench.bind(number);
            }
            assert!(bench.write().await);
            let before = fs::metadata(bench.path()).unwrap().len();
            assert!(before > MIN_REWRITE, "{before}");
            bench.shorten().await;
            let after = fs::metadata(bench.path()).unwrap();
            assert!(
                after.len() < 20_000 && bench.store.file.len() == after.len(),
                "{round}: {}",
                after.len()
            );
            assert!(!in_place || after.ino() == inode);
            assert_eq!(
                fs::read_dir(bench.dir.path()).unwrap().count(),
                1,
                "nothing is left beside it"
            );
        }
    }
}

/// A step of the clock in place: the ends are written anew, and the file stays bounded.
#[tokio::test]
async fn ends_are_those_of_the_clock_after_it_was_set() {
    for in_place in [false, true] {
        for back in [true, false] {
            let mut bench = Bench::new();
            bench.store.in_place = in_place;
            (0..100).for_each(|number| bench.bind(number));
            assert!(bench.write().await);
            let years = HOUR * 24 * 365 * 10;
            bench.now.wall = if back { bench.now.wall - years } else { bench.now.wall + years };
            bench.store.tidy(&bench.leases, bench.now).await;
            assert!(bench.store.is_rewriting());
            while bench.store.is_rewriting() {
                bench.store.tidy(&bench.leases, bench.now).await;
                tokio::task::yield_now().await;
            }
            bench.check();
            let long = fs::metadata(bench.path()).unwrap().len();
            assert!(long < 20_000, "{in_place} {back}: {long}");
        }
    }
}

#[tokio::test]
async fn what_others_do_to_the_file_is_mended_before_a_lease_is_told() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("removed", |path| fs::remove_file(path).unwrap()),
        ("moved", |path| fs::rename(path, path.with_extension("old")).unwrap()),
        ("replaced", |path| {
            fs::write(path.with_extension("tmp"), "berth-leases 1\n").unwrap();
            fs::rename(path.with_extension("tmp"), path).unwrap();
        }),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("written to", |path| {
            fs::write(path, [fs::read(path).unwrap(), b"half a li".to_vec()].concat()).unwrap();
        }),
    ];
    for (what, harm) in harms {
        for by_request in [true, false] {
            let mut bench = Bench::new();
            (0..50).for_each(|number| bench.bind(number));
            assert!(bench.write().await);
            harm(&bench.path());
            if by_request {
                bench.bind(60);
                assert!(bench.write().await, "{what}");
            } else {
                bench.store.check(&bench.leases, bench.now).await;
            }
            bench.check();
            bench.bind(61);
            assert!(bench.write().await, "{what}");
            bench.check();
            let kept = bench.dir.path().join("leases.other");
            assert_eq!(kept.exists(), what == "replaced", "{what}");
        }
    }
}

#[tokio::test]
async fn a_name_that_another_server_took_is_not_taken_back() {
    let mut bench = Bench::new();
    bench.bind(1);
    assert!(bench.write().await);
    fs::remove_file(bench.path()).unwrap();
    let (other, _) = LeaseFile::open(&bench.path(), HEADER, is_ours).unwrap();
    bench.bind(2);
    assert!(!bench.write().await, "no lease that a next start would not know");
    drop(other);
    assert!(!bench.write().await, "not tried again at once");
    bench.pass(WRITE_AGAIN.first);
    assert!(bench.write().await);
    bench.check();
}

/// Nothing makes it shorter: it grows up to what is read again, then no lease is told.
#[tokio::test]
async fn a_file_that_cannot_be_shortened_has_a_bound() {
    let mut bench = Bench::new();
    bench.store.max = 2 * MIN_REWRITE;
    // A directory by the draft's name: neither a file nor in the way of one in place.
    fs::create_dir(bench.dir.path().join("leases.new")).unwrap();
    let mut told = 0;
    for number in 0..20_000 {
        bench.bind(number);
        told += u32::from(bench.write().await);
        bench.store.tidy(&bench.leases, bench.now).await;
        bench.pass(Duration::from_millis(1));
    }
    assert!(told > 5000 && told < 10_000, "{told}");
    let long = fs::metadata(bench.path()).unwrap().len();
    assert!(long <= bench.store.max, "{long}");
    assert!(bench.store.shortening.failed.is_some() && bench.store.writing.failed.is_some());
    assert!(bench.store.unwritten.len() <= MAX_UNWRITTEN);
    // When it can be done again it is, and what was left out is there.
    fs::remove_dir(bench.dir.path().join("leases.new")).unwrap();
    bench.pass(SHORTEN_AGAIN.last);
    while bench.store.shortening.failed.is_some() || bench.store.is_rewriting() {
        bench.store.tidy(&bench.leases, bench.now).await;
        tokio::task::yield_now().await;
    }
    bench.pass(WRITE_AGAIN.last);
    bench.bind(5);
    assert!(bench.write().await);
    bench.check();
}

#[test]
fn what_fails_is_said_once_and_tried_ever_more_rarely() {
    let mut attempts = Attempts::new(SHORTEN_AGAIN);
    let mut now = Bench::new().now.monotonic;
    let began = now;
    let (mut tried, mut said) = (0, 0);
    while now < began + HOUR {
        if !attempts.waits(now) {
            tried += 1;
            said += i32::from(attempts.fail(now));
        }
        now += Duration::from_secs(1);
    }
    assert_eq!((tried, said), (11, 1));
    assert!(attempts.succeed() && !attempts.succeed());
    assert!(!attempts.waits(now));
}
