use super::*;

const POOL: [Range; 1] =
    [Range { first: Ipv4Addr::new(10, 0, 0, 1), last: Ipv4Addr::new(10, 0, 0, 4) }];
const HOUR: Duration = Duration::from_secs(3600);

/// A clock that is moved by hand; the wall clock jumps as it likes.
struct Clock(Now);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn new() -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        Self(Now { monotonic: Instant::now(), wall })
    }

    fn on(&mut self, duration: Duration) {
        self.0.monotonic += duration;
        self.0.wall += duration;
    }
}

fn client(number: u32) -> ClientId {
    ClientId::new(&number.to_be_bytes())
}

fn hardware(number: u32) -> Hardware {
    let [a, b, c, d] = number.to_be_bytes();
    Hardware { kind: 1, address: MacAddr([2, 0, a, b, c, d]) }
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn none(_: Ipv4Addr) -> bool {
    false
}

/// DISCOVER and REQUEST of one client.
fn lease(leases: &mut Leases, now: Now, number: u32, time: Option<Duration>) -> Option<Ipv4Addr> {
    let client = client(number);
    let free = leases.of_client(now, &client, &POOL).map(|lease| lease.address);
    let free = free.filter(|address| leases.is_free_for(now, *address, &client));
    let address = free.or_else(|| leases.free(now, &POOL, &none))?;
    assert!(leases.offer(now, address, &client, hardware(number), Duration::from_secs(60)));
    assert!(leases.bind(now, address, &client, hardware(number), Some("web"), time));
    Some(address)
}

/// A flood of clients that never ask for what they are offered keeps neither memory nor addresses.
#[test]
fn the_oldest_offer_is_taken_back_when_there_are_too_many() {
    let (clock, mut leases) = (Clock::new(), Leases::new(1_000_000));
    let pool = [Range { first: Ipv4Addr::new(10, 1, 0, 1), last: Ipv4Addr::new(10, 1, 255, 254) }];
    let offer = |leases: &mut Leases, number: u32| {
        let address = leases.free(clock.0, &pool, &none).unwrap();
        assert!(leases.offer(
            clock.0,
            address,
            &client(number),
            hardware(number),
            Duration::from_secs(60)
        ));
        address
    };
    let first = offer(&mut leases, 0);
    for number in 1..20_000 {
        let honest = offer(&mut leases, 1_000_000 + number);
        offer(&mut leases, number);
        assert!(
            number % 100 != 0 || leases.is_free_for(clock.0, honest, &client(1_000_000 + number))
        );
    }
    assert_eq!((leases.offers.len(), leases.offered_to.by_client.len()), (MAX_OFFERS, MAX_OFFERS));
    assert!(leases.offers_end.len() <= 2 * MAX_OFFERS + 1025);
    let last = leases.offers.values().find(|offer| offer.client == client(19_999)).cloned();
    assert!(last.is_some(), "the newest stand");
    assert!(leases.offers.values().all(|offer| offer.client != client(0)), "the oldest do not");
    assert!(leases.is_free_for(clock.0, first, &client(0)) || leases.offers.contains_key(&first));
}

#[test]
fn d14_d15_each_client_has_its_own_address_and_gets_it_again() {
    let (mut clock, mut leases) = (Clock::new(), Leases::new(100));
    let given: Vec<_> =
        (1..=4).map(|number| lease(&mut leases, clock.0, number, Some(HOUR))).collect();
    assert_eq!(given, [1, 2, 3, 4].map(|last| Some(address(last))));
    assert_eq!(lease(&mut leases, clock.0, 5, Some(HOUR)), None);
    assert!(!leases.bind(clock.0, address(2), &client(5), hardware(5), None, Some(HOUR)));
    clock.on(HOUR / 2);
    assert_eq!(lease(&mut leases, clock.0, 2, Some(HOUR)), Some(address(2)));
    // The first one ended first; the second was renewed.
    clock.on(HOUR / 2);
    assert_eq!(lease(&mut leases, clock.0, 5, Some(HOUR)), Some(address(1)));
    assert_eq!(lease(&mut leases, clock.0, 2, Some(HOUR)), Some(address(2)));
}

#[test]
fn d16_an_offer_is_kept_for_its_time_and_no_longer() {
    let (mut clock, mut leases) = (Clock::new(), Leases::new(100));
    let hold = Duration::from_secs(60);
    for number in 1..=4 {
        let free = leases.free(clock.0, &POOL, &none).unwrap();
        assert!(leases.offer(clock.0, free, &client(number), hardware(number), hold));
    }
    assert_eq!(leases.free(clock.0, &POOL, &none), None);
    assert!(!leases.is_free_for(clock.0, address(1), &client(9)));
    assert!(!leases.offer(clock.0, address(1), &client(9), hardware(9), hold));
    leases.withdraw(address(3));
    assert_eq!(leases.free(clock.0, &POOL, &none), Some(address(3)));
    clock.on(hold);
    assert_eq!(leases.free(clock.0, &POOL, &none), Some(address(1)));
    assert!(leases.journal().is_empty(), "an offer is written nowhere");
}

#[test]
fn an_offer_does_not_shorten_what_is_bound() {
    let (mut clock, mut leases) = (Clock::new(), Leases::new(100));
    lease(&mut leases, clock.0, 1, Some(HOUR));
    assert!(leases.offer(clock.0, address(1), &client(1), hardware(1), Duration::from_secs(60)));
    clock.on(Duration::from_secs(61));
    let found = leases.of_client(clock.0, &client(1), &POOL).unwrap();
    assert_eq!((found.state, found.address), (State::Bound, address(1)));
    assert!(!leases.is_free_for(clock.0, address(1), &client(2)));
}

#[test]
fn d09_d10_released_is_free_and_declined_is_nobodys() {
    let (mut clock, mut leases) = (Clock::new(), Leases::new(100));
    lease(&mut leases, clock.0, 1, None);
    leases.release(clock.0, address(1));
    assert!(leases.is_free_for(clock.0, address(1), &client(2)));
    assert_eq!(leases.of_client(clock.0, &client(1), &POOL).unwrap().state, State::Released);
    leases.decline(clock.0, address(2), HOUR);
    assert!(!leases.is_free_for(clock.0, address(2), &client(1)));
    clock.on(HOUR);
    assert!(leases.is_free_for(clock.0, address(2), &client(1)));
}

#[test]
fn a_client_that_collects_addresses_is_remembered_with_few() {
    let (mut clock, mut leases) = (Clock::new(), Leases::new(1000));
    for last in 1..=100 {
        assert!(leases.bind(clock.0, address(last), &client(1), hardware(1), None, Some(HOUR)));
        leases.release(clock.0, address(last));
        clock.on(Duration::from_secs(1));
    }
    assert!(leases.len() < 20, "{}", leases.len());
}

/// One client behind many relays.
#[test]
fn d15_a_client_may_hold_many_addresses_at_once_and_keeps_them() {
    let (clock, mut leases) = (Clock::new(), Leases::new(1000));
    for last in 1..=50 {
        assert!(leases.bind(clock.0, address(last), &client(1), hardware(1), None, Some(HOUR)));
    }
    assert!((1..=50).all(|last| !leases.is_free_for(clock.0, address(last), &client(2))));
}

#[test]
fn who_asks_and_withdraws_in_turns_takes_no_memory() {
    let (clock, mut leases) = (Clock::new(), Leases::new(1000));
    for _ in 0..100_000 {
        assert!(leases.offer(
            clock.0,
            address(1),
            &client(1),
            hardware(1),
            Duration::from_secs(60)
        ));
        leases.withdraw(address(1));
    }
    assert!(leases.offers_end.len() < 2000, "{}", leases.offers_end.len());
}

/// The process's own memory: each test has one to itself.
#[test]
fn sixty_thousand_leases_take_less_than_two_hundred_octets_each() {
    let resident = || -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: Vec<usize> =
            text.split(' ').skip(1).take(2).map(|pages| pages.parse().unwrap()).collect();
        // Without what is mapped from files: the program itself.
        (pages[0] - pages[1]) * 4096
    };
    let (clock, mut leases) = (Clock::new(), Leases::new(70_000));
    let before = resident();
    for number in 0..60_000u32 {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + number);
        let [a, b, c, d] = number.to_be_bytes();
        let id = ClientId::new(&[1, 2, 0, a, b, c, d]);
        assert!(leases.bind(clock.0, address, &id, hardware(number), None, Some(HOUR)));
        leases.journal();
    }
    let each = (resident() - before) / 60_000;
    println!("{each} octets a lease");
    assert!(each <= 200, "{each} octets a lease");
}

/// Each range gives away what ended in it for longest, whatever ended elsewhere; what overlaps is in both.
#[test]
fn what_ended_is_taken_from_its_own_range() {
    let range = |first, last| Range { first: address(first), last: address(last) };
    let (low, high, middle) = (range(1, 3), range(4, 6), range(3, 4));
    let take = |leases: &mut Leases, now, range: Range| leases.free(now, &[range], &|_| false);
    let bind = |leases: &mut Leases, now, number| {
        assert!(leases.bind(
            now,
            address(number),
            &client(number.into()),
            hardware(number.into()),
            None,
            Some(HOUR)
        ));
    };
    for divided in [&[][..], &[low, high], &[low, high, middle]] {
        let (mut clock, mut leases) = (Clock::new(), Leases::new(10));
        leases.divide(divided);
        for number in [6, 5, 4, 3, 2, 1] {
            bind(&mut leases, clock.0, number);
            clock.on(HOUR / 10);
        }
        assert_eq!(take(&mut leases, clock.0, low), None);
        clock.on(HOUR);
        assert_eq!(take(&mut leases, clock.0, low), Some(address(3)));
        assert_eq!(take(&mut leases, clock.0, high), Some(address(6)));
        assert_eq!(take(&mut leases, clock.0, middle), Some(address(4)));
        assert_eq!(leases.free(clock.0, &[low, high], &|_| false), Some(address(6)));
        bind(&mut leases, clock.0, 4);
        assert_eq!(take(&mut leases, clock.0, middle), Some(address(3)));
        // What was known before they were told is looked up the same way.
        leases.divide(&[middle]);
        assert_eq!(take(&mut leases, clock.0, middle), Some(address(3)));
    }
}

#[test]
fn no_more_is_remembered_than_the_limit() {
    let (mut clock, mut leases) = (Clock::new(), Leases::new(2));
    assert!(leases.bind(clock.0, address(1), &client(1), hardware(1), None, Some(HOUR)));
    assert!(leases.bind(clock.0, address(2), &client(2), hardware(2), None, None));
    assert!(!leases.bind(clock.0, address(3), &client(3), hardware(3), None, None));
    clock.on(HOUR);
    assert!(leases.bind(clock.0, address(3), &client(3), hardware(3), None, None));
    assert_eq!(leases.len(), 2);
}

/// What a file holds after these operations, and when.
fn written() -> (Clock, Vec<u8>) {
    let (mut clock, mut leases) = (Clock::new(), Leases::new(100));
    lease(&mut leases, clock.0, 1, Some(HOUR));
    lease(&mut leases, clock.0, 2, None);
    lease(&mut leases, clock.0, 3, Some(HOUR));
    leases.release(clock.0, address(3));
    leases.decline(clock.0, address(4), HOUR);
    clock.on(HOUR / 2);
    lease(&mut leases, clock.0, 1, Some(HOUR));
    let mut file = HEADER.as_bytes().to_vec();
    file.extend(leases.journal());
    (clock, file)
}

#[test]
fn the_file_is_text() {
    let (_, file) = written();
    let text = String::from_utf8(file).unwrap();
    assert_eq!(
        text.lines().next_back(),
        Some("bound 10.0.0.1 1764005402 1/02:00:00:00:00:01 00000001 web c9cf1657"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 7);
}

#[test]
fn d54_d55_what_was_written_is_known_after_a_restart_whatever_the_clocks() {
    let (clock, file) = written();
    // Another process, whose monotonic clock began anew; a minute was lost.
    let mut then = Clock::new();
    then.0.wall = clock.0.wall + Duration::from_secs(60);
    let (leases, recovered) = Leases::<Ipv4Addr>::recover(then.0, &file, 100);
    assert_eq!(recovered, Recovered { lines: 6, ..Recovered::default() });
    let states: Vec<_> = leases.iter().map(|lease| (lease.address, lease.state)).collect();
    let (bound, released, declined) = (State::Bound, State::Released, State::Declined);
    let wanted = [(1, bound), (2, bound), (3, released), (4, declined)];
    assert_eq!(states, wanted.map(|(last, state)| (address(last), state)));
    let until = leases.of_client(then.0, &client(1), &POOL).unwrap().until.unwrap();
    let left = until - then.0.monotonic;
    assert!(left > HOUR - Duration::from_secs(62) && left <= HOUR, "{left:?}");
    assert_eq!(leases.of_client(then.0, &client(2), &POOL).unwrap().until, None);
    // The wall clock jumps: nothing ends, nothing is immortal.
    then.0.wall += HOUR * 1000;
    assert!(!leases.is_free_for(then.0, address(1), &client(9)));
    then.0.monotonic += HOUR;
    assert!(leases.is_free_for(then.0, address(1), &client(9)));
}

#[test]
fn a_file_cut_anywhere_loses_only_what_was_not_whole() {
    let (clock, file) = written();
    for cut in 0..file.len() {
        let (leases, recovered) = Leases::<Ipv4Addr>::recover(clock.0, &file[..cut], 100);
        let whole = file[..cut].iter().filter(|byte| **byte == b'\n').count();
        let header = usize::from(whole > 0);
        assert_eq!((recovered.lines, recovered.damaged), (whole - header, 0), "cut at {cut}");
        assert_eq!(
            recovered.torn,
            cut - file[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
        );
        assert!(leases.len() <= recovered.lines);
    }
}

#[test]
fn a_spoiled_line_says_nothing_and_the_rest_counts() {
    let (clock, file) = written();
    for at in HEADER.len()..file.len() {
        for flip in [1, 0x20, 0x80] {
            let mut spoiled = file.clone();
            spoiled[at] ^= flip;
            let (_, recovered) = Leases::<Ipv4Addr>::recover(clock.0, &spoiled, 100);
            assert!(recovered.lines >= 4 && recovered.damaged <= 2, "{at}: {recovered:?}");
            assert!(recovered.lines < 6, "{at} {flip}: nobody noticed");
        }
    }
}

#[test]
fn a_file_of_ours_is_known_cut_or_spoiled_and_others_are_not() {
    let (_, file) = written();
    for cut in 0..=file.len() {
        assert!(is_ours(&file[..cut]), "cut at {cut}");
    }
    for at in 0..file.len() {
        let mut spoiled = file.clone();
        spoiled[at] ^= 1;
        assert!(is_ours(&spoiled), "spoiled at {at}");
    }
    assert!(is_ours(&[0; 100]));
    for theirs in [
        &b"1795450226 52:54:00:00:00:01 10.0.0.1 laptop 01:52:54:00:00:00:01\n"[..],
        b"lease 10.0.0.1 {\n  binding state active;\n}\n",
        b"127.0.0.1 localhost\n",
        b"\x7fELF\x02\x01\x01\0\0",
        b"berth-leases of old\n",
        b"\n",
    ] {
        assert!(!is_ours(theirs), "{:?}", theirs.escape_ascii().to_string());
    }
}

#[test]
fn a_snapshot_taken_in_slices_and_what_changed_meanwhile_are_all_there_is() {
    let (mut clock, mut leases) = (Clock::new(), Leases::new(1000));
    for last in 1..=200 {
        assert!(leases.bind(
            clock.0,
            address(last),
            &client(last.into()),
            hardware(1),
            None,
            Some(HOUR)
        ));
    }
    leases.journal();
    let mut file = HEADER.as_bytes().to_vec();
    let mut from = Some(0);
    while let Some(at) = from {
        let (slice, next) = leases.snapshot(clock.0, at, 30);
        file.extend(slice);
        from = next;
        clock.on(Duration::from_secs(1));
        leases.release(clock.0, address(u8::try_from(at + 1).unwrap()));
        assert!(leases.bind(
            clock.0,
            address(201),
            &client(u32::try_from(at).unwrap()),
            hardware(1),
            None,
            Some(HOUR)
        ));
        leases.release(clock.0, address(201));
    }
    file.extend(leases.journal());
    let (found, recovered) = Leases::<Ipv4Addr>::recover(clock.0, &file, 1000);
    assert_eq!(recovered.damaged, 0);
    let listed = |leases: &Leases| {
        leases.iter().map(|lease| (lease.address, lease.state, lease.client)).collect::<Vec<_>>()
    };
    assert_eq!(listed(&found), listed(&leases));
}

/// A file of a server whose clock was ahead, or of one with longer leases: 101 leases into 2036, one for ever, one
/// given back in the future.
#[test]
fn ends_that_lie_beyond_the_longest_lease_are_bounded() {
    let (mut clock, mut ahead) = (Clock::new(), Clock::new());
    ahead.0.wall += HOUR * 24 * 365 * 10;
    let mut before = Leases::new(100);
    for (last, time) in [(1, Some(HOUR)), (2, None), (3, Some(HOUR)), (4, Some(HOUR))] {
        assert!(before.bind(ahead.0, address(last), &client(last.into()), hardware(1), None, time));
    }
    before.release(ahead.0, address(3));
    before.decline(ahead.0, address(4), HOUR);
    let file = [HEADER.as_bytes(), &before.journal()].concat();

    let (mut leases, _) = Leases::<Ipv4Addr>::recover(clock.0, &file, 100);
    assert_eq!(leases.free(clock.0, &POOL, &none), None, "as the file has it");
    let longest = |address: Ipv4Addr, state| match (address.octets()[3], state) {
        (_, State::Declined) => Some(HOUR / 6),
        _ => Some(HOUR),
    };
    assert_eq!(leases.shorten(clock.0, longest), 3);
    assert_eq!(leases.shorten(clock.0, longest), 0, "once");
    assert_eq!(
        leases.free(clock.0, &POOL, &none),
        Some(address(3)),
        "what was given back is anyone's"
    );
    let left = |leases: &Leases, now: Now, last| {
        leases
            .of_address(now, address(last))
            .unwrap()
            .until
            .map(|until| until.duration_since(now.monotonic))
    };
    assert_eq!(
        [1, 2, 4].map(|last| left(&leases, clock.0, last)),
        [Some(HOUR), Some(HOUR), Some(HOUR / 6)]
    );
    // It is written: another start does not begin the hour again.
    let file = [file, leases.journal()].concat();
    clock.on(HOUR / 2);
    let (mut again, _) = Leases::<Ipv4Addr>::recover(clock.0, &file, 100);
    assert_eq!(again.shorten(clock.0, longest), 0);
    assert!(left(&again, clock.0, 1).unwrap() <= HOUR / 2 + Duration::from_secs(3));
    clock.on(HOUR / 2 + Duration::from_secs(3));
    assert!((1..=4).all(|last| again.is_free_for(clock.0, address(last), &client(9))));
}

/// Only what is configured to be for ever is.
#[test]
fn an_end_that_may_lie_anywhere_stays() {
    let (clock, mut leases) = (Clock::new(), Leases::new(100));
    assert!(leases.bind(clock.0, address(1), &client(1), hardware(1), None, None));
    assert!(leases.bind(clock.0, address(2), &client(2), hardware(2), None, Some(HOUR * 100)));
    let (before, _) = (leases.iter().collect::<Vec<_>>(), leases.journal());
    assert_eq!(leases.shorten(clock.0, |_, _| None), 0);
    assert_eq!(leases.iter().collect::<Vec<_>>(), before);
    assert!(leases.journal().is_empty());
}

/// Lines that contradict each other, and addresses nobody is given any more: the last line of an address counts, and
/// one client may have several.
#[test]
fn the_last_line_of_an_address_counts_whoever_it_is_of() {
    let (clock, mut leases) = (Clock::new(), Leases::new(100));
    let mut file = HEADER.as_bytes().to_vec();
    for number in [1, 2, 1, 3] {
        let mut one = Leases::new(100);
        assert!(one.bind(clock.0, address(1), &client(number), hardware(number), None, Some(HOUR)));
        file.extend(one.journal());
    }
    for last in [7, 9] {
        assert!(leases.bind(clock.0, address(last), &client(8), hardware(8), None, Some(HOUR)));
    }
    file.extend(leases.journal());
    let (leases, recovered) = Leases::<Ipv4Addr>::recover(clock.0, &file, 100);
    assert_eq!((recovered.lines, leases.len()), (6, 3));
    assert_eq!(leases.of_address(clock.0, address(1)).unwrap().client, client(3));
    assert!([7, 9].into_iter().all(|last| !leases.is_free_for(clock.0, address(last), &client(9))));
}

proptest::proptest! {
    #[test]
    fn no_octets_stop_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let (leases, recovered) = Leases::<Ipv4Addr>::recover(Clock::new().0, &bytes, 4);
        assert!(leases.len() <= recovered.lines.min(4));
    }
}
