//! Sessions without a guest: what they read, miss, type, and when they end.

use super::*;

fn request(kind: Kind, mode: Mode) -> Request {
    Request { kind, who: "somebody".to_owned(), mode, replay: usize::MAX }
}

async fn all(output: &mut Output) -> (Vec<u8>, u64) {
    let (mut read, mut skipped) = (Vec::new(), 0);
    while let Some(chunk) = output.next().await {
        match chunk {
            Chunk::Bytes(bytes) => read.extend_from_slice(&bytes),
            Chunk::Skipped(count) => skipped += count,
        }
    }
    (read, skipped)
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_costs_itself_octets_and_nobody_else() {
    let (hub, wire) = new();
    let attach = || hub.attach(request(Kind::Socket, Mode::ReadOnly)).unwrap().output;
    let (mut reading, mut stopped) = (attach(), attach());
    let mut stdout = hub.attach(request(Kind::Stdout, Mode::ReadOnly)).unwrap().output;
    let (mut written, mut got) = (Vec::new(), Vec::new());
    for number in 0..100_000 {
        let line = format!("{number}\r\n");
        wire.write(line.as_bytes());
        written.extend_from_slice(line.as_bytes());
        if number % 1000 == 0 {
            let Some(Chunk::Bytes(bytes)) = reading.next().await else { panic!("a gap") };
            got.extend_from_slice(&bytes);
        }
    }
    let closing = tokio::spawn(wire.close(Instant::now() + Duration::from_secs(60)));
    let (rest, skipped) = all(&mut reading).await;
    assert_eq!(skipped, 0);
    assert!([got, rest].concat() == written, "it has it all");
    let (rest, skipped) = all(&mut stopped).await;
    assert!(written.ends_with(&rest) && rest.len() >= 120 << 10 && rest.len() <= WAITING_BYTES);
    assert_eq!(rest.len() + usize::try_from(skipped).unwrap(), written.len());
    assert!(all(&mut stdout).await == (written, 0), "its bound is more than that");
    let counts = hub.counts();
    assert_eq!((counts.sessions[&Kind::Socket], counts.skipped_bytes[&Kind::Socket]), (2, skipped));
    assert_eq!(counts.skipped_bytes[&Kind::Stdout], 0);
    assert!(!closing.is_finished());
    drop((reading, stopped, stdout));
    closing.await.unwrap();
    assert_eq!(hub.counts().sessions[&Kind::Socket], 0);
}

#[tokio::test]
async fn the_end_does_not_wait_for_one_that_does_not_read() {
    let (hub, wire) = new();
    let _stopped = hub.attach(request(Kind::Web, Mode::ReadWrite)).unwrap();
    wire.write(b"last words");
    tokio::time::pause();
    wire.close(Instant::now() + Duration::from_secs(1)).await;
}

#[test]
fn the_seventeenth_is_refused_and_our_stdout_is_none_of_them() {
    let (hub, wire) = new();
    let _stdout = hub.attach(request(Kind::Stdout, Mode::ReadOnly)).unwrap();
    let attach = || hub.attach(request(Kind::Socket, Mode::ReadWrite));
    let mut sessions: Vec<Session> = (0..MAX_SESSIONS).map(|_| attach().unwrap()).collect();
    assert_eq!(sessions[15].others.len(), 16);
    assert_eq!(sessions[15].others[3], "somebody (read-write)");
    assert_eq!(attach().unwrap_err(), Full);
    sessions.pop();
    assert!(attach().is_ok());
    drop(wire);
}

#[tokio::test]
async fn a_replay_comes_after_a_soft_reset_and_nothing_is_missing_or_twice_behind_it() {
    let (hub, wire) = new();
    assert_eq!(hub.attach(request(Kind::Web, Mode::ReadOnly)).unwrap().replay, "");
    wire.write(b"one\r\ntw");
    let mut session = hub.attach(request(Kind::Web, Mode::ReadOnly)).unwrap();
    assert_eq!(session.replay, "\x1b[!pone\r\ntw");
    wire.write(b"o");
    drop(wire);
    assert_eq!(all(&mut session.output).await.0, b"o");
    assert_eq!(hub.replay(usize::MAX), "one\r\ntwo");
    assert_eq!(hub.replay(4), "two", "a line's end and half a line");
}

#[tokio::test]
async fn what_all_type_reaches_the_guest_and_those_who_may_only_read_have_no_way() {
    let (hub, mut wire) = new();
    let session = hub.attach(request(Kind::Socket, Mode::ReadWrite)).unwrap();
    assert!(hub.attach(request(Kind::Socket, Mode::ReadOnly)).unwrap().input.is_none());
    let (paste, input) = (vec![b'x'; 100_000], session.input.unwrap());
    let pasting = tokio::spawn({
        let (paste, input) = (paste.clone(), input.clone());
        async move { input.send(&paste).await }
    });
    let mut got = wire.typed().await.to_vec();
    // Another one's key comes through soon, in the middle of it.
    let key = tokio::spawn({
        let input = hub.input();
        async move { input.send(b"\x03").await }
    });
    tokio::task::yield_now().await;
    while got.len() < paste.len() + 1 {
        got.extend_from_slice(&wire.typed().await);
    }
    let at = got.iter().position(|octet| *octet == 3).unwrap();
    assert!(at <= (2 * TYPED_PIECES + 3) * TYPED_BYTES, "after {at} octets");
    assert!(pasting.await.unwrap().is_ok() && key.await.unwrap().is_ok());
    drop(wire);
    assert_eq!(input.send(b"x").await, Err(Gone));
}

/// QEMU writes octet by octet; each must not wake everybody.
#[tokio::test(start_paused = true)]
async fn a_stream_of_octets_comes_in_pieces_and_the_first_and_the_last_at_once() {
    let (hub, wire) = new();
    let mut output = hub.attach(request(Kind::Socket, Mode::ReadOnly)).unwrap().output;
    let start = Instant::now();
    wire.write(b"a");
    assert_eq!(output.next().await, Some(Chunk::Bytes("a".into())));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let reading = tokio::spawn(async move {
        let mut pieces = 0;
        while output.next().await.is_some() {
            pieces += 1;
        }
        pieces
    });
    for _ in 0..1000 {
        wire.write(b"b");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let end = Instant::now();
    wire.close(end + Duration::from_secs(9)).await;
    assert!(end.elapsed() <= PACE, "{:?}", end.elapsed());
    let pieces = reading.await.unwrap();
    assert!((38..=42).contains(&pieces), "{pieces} pieces");
}
