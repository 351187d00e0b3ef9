//! Who is logged in, and how often somebody guessed. Pure: the time and the random secret are given.

use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

/// Of a secret, in octets.
pub const SECRET_BYTES: usize = 16;
/// The one used longest ago makes room.
const MAX_SESSIONS: usize = 32;
/// From the login on.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Without a request.
const IDLE: Duration = Duration::from_secs(2 * 3600);
/// Wrong tokens before each further answer takes its time.
const FREE_GUESSES: u32 = 5;
const DELAY: Duration = Duration::from_secs(1);
/// Of slow ones, for a log that a stranger cannot fill.
const TOLD_EVERY: u32 = 100;
/// Without a wrong token for so long, they are forgotten.
const FORGET: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Session {
    /// Its text, as the cookie has it.
    secret: String,
    number: u32,
    began: Instant,
    used: Instant,
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= LIFETIME
            || now.saturating_duration_since(self.used) >= IDLE
    }
}

/// At most 32 sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    all: Vec<Session>,
    last_number: u32,
    guesses: u32,
    last_guess: Option<Instant>,
}

impl Sessions {
    /// A new one: its number and the text of its secret.
    pub fn begin(&mut self, now: Instant, secret: [u8; SECRET_BYTES]) -> (u32, String) {
        self.all.retain(|session| !session.is_over(now));
        if self.all.len() >= MAX_SESSIONS
            && let Some(oldest) = self.all.iter().map(|session| session.used).min()
            && let Some(at) = self.all.iter().position(|session| session.used == oldest)
        {
            self.all.remove(at);
        }
        self.last_number = self.last_number.wrapping_add(1);
        let text: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
        let number = self.last_number;
        self.all.push(Session { secret: text.clone(), number, began: now, used: now });
        (number, text)
    }

    /// The number of the one with this secret.
    pub fn number(&self, now: Instant, secret: &[u8]) -> Option<u32> {
        let of = |session: &&Session| bool::from(session.secret.as_bytes().ct_eq(secret));
        self.all
            .iter()
            .find(of)
            .filter(|session| !session.is_over(now))
            .map(|session| session.number)
    }

    /// It asked for something.
    pub fn used(&mut self, now: Instant, number: u32) {
        if let Some(session) = self.all.iter_mut().find(|session| session.number == number) {
            session.used = now;
        }
    }

    pub fn end(&mut self, number: u32) {
        self.all.retain(|session| session.number != number);
    }

    /// A wrong token: how long its answer takes, and whether it is told. Nobody is locked out.
    pub fn guessed(&mut self, now: Instant) -> (Duration, bool) {
        let last = self.last_guess.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= FORGET) {
            self.guesses = 0;
        }
        self.guesses = self.guesses.saturating_add(1);
        if self.guesses <= FREE_GUESSES {
            return (Duration::ZERO, true);
        }
        (DELAY, self.guesses.is_multiple_of(TOLD_EVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_time() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn secret(number: u8) -> [u8; SECRET_BYTES] {
        [number; SECRET_BYTES]
    }

    #[test]
    fn a_session_is_known_until_it_ends_or_is_idle() {
        let (mut sessions, now) = (Sessions::default(), a_time());
        let (number, text) = sessions.begin(now, secret(0xab));
        assert_eq!(text, "ab".repeat(16));
        assert_eq!(sessions.number(now, text.as_bytes()), Some(number));
        assert_eq!(sessions.number(now, b"ab"), None);
        assert_eq!(sessions.number(now + IDLE, text.as_bytes()), None);
        for hour in 1..12 {
            let now = now + Duration::from_secs(3600 * hour);
            assert_eq!(sessions.number(now, text.as_bytes()), Some(number));
            sessions.used(now, number);
        }
        assert_eq!(sessions.number(now + LIFETIME, text.as_bytes()), None);
        let (number, text) = sessions.begin(now, secret(1));
        sessions.end(number);
        assert_eq!(sessions.number(now, text.as_bytes()), None);
    }

    #[test]
    fn there_are_no_more_than_that_and_the_one_used_last_stays() {
        let (mut sessions, now) = (Sessions::default(), a_time());
        let (first, text) = sessions.begin(now, secret(0));
        for number in 1..=255 {
            let now = now + Duration::from_secs(u64::from(number));
            sessions.begin(now, secret(number));
            sessions.used(now, first);
            assert!(sessions.all.len() <= MAX_SESSIONS);
        }
        assert_eq!(sessions.number(now, text.as_bytes()), Some(first));
    }

    #[test]
    fn guesses_become_slow_and_are_forgotten() {
        let (mut sessions, now) = (Sessions::default(), a_time());
        let delays: Vec<_> = (0..7).map(|_| sessions.guessed(now)).collect();
        let free = [(Duration::ZERO, true); 5];
        assert_eq!(delays, [free.as_slice(), &[(DELAY, false); 2]].concat());
        let told = (0..1000).filter(|_| sessions.guessed(now).1).count();
        assert_eq!(told, 10);
        assert_eq!(sessions.guessed(now + FORGET), (Duration::ZERO, true));
    }
}
