//! What clients take of something that is bounded, so that none takes the places of the others.
//!
//! A client may hold as much as is left free, and no more: one alone half of all, two a third each. There is always
//! something left for one who comes later, and nobody has to be looked for and turned out (dynamic thresholds, as
//! switches share their buffers).

use std::collections::HashMap;
use std::net::IpAddr;

/// By address. None: all whose address may be anybody's, together.
pub type Client = Option<IpAddr>;

/// What each client holds of a common bound, in octets.
#[derive(Debug)]
pub struct Shares {
    all: usize,
    held: usize,
    by: HashMap<Client, usize>,
}

impl Shares {
    /// Of so much.
    pub fn new(all: usize) -> Self {
        Self { all, held: 0, by: HashMap::new() }
    }

    /// Whether the client may have so much more; it has, then.
    pub fn take(&mut self, client: Client, some: usize) -> bool {
        let own = self.by.get(&client).copied().unwrap_or_default();
        let free = self.all.saturating_sub(self.held);
        let has = own.saturating_add(some) <= free;
        if has {
            self.held += some;
            self.by.insert(client, own + some);
        }
        has
    }

    /// What it has taken comes back.
    pub fn give(&mut self, client: Client, some: usize) {
        let Some(own) = self.by.get_mut(&client) else { return };
        let some = some.min(*own);
        *own -= some;
        self.held -= some;
        if *own == 0 {
            self.by.remove(&client);
        }
        // A flood's table is not kept.
        if self.by.is_empty() {
            self.by.shrink_to(64);
        }
    }

    /// Octets that all hold.
    pub fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> Client {
        Some([10, 0, 0, number].into())
    }

    fn fill(shares: &mut Shares, number: u8) -> usize {
        (0..).find(|_| !shares.take(client(number), 1)).unwrap()
    }

    #[test]
    fn whoever_comes_later_finds_something_left() {
        let mut shares = Shares::new(512);
        assert_eq!(fill(&mut shares, 1), 256);
        assert_eq!(fill(&mut shares, 2), 128, "half of what is left");
        for number in 3..=9 {
            assert!(fill(&mut shares, number) > 0, "{number}");
        }
        assert!(shares.held() <= 512);
    }

    proptest::proptest! {
        /// Whatever is taken and given back: no more than there is, nobody holds more than was free then, none is lost.
        #[test]
        fn what_is_taken_and_given_back_adds_up(
            steps in proptest::collection::vec((0u8..5, 1usize..40, proptest::bool::ANY), 0..300),
        ) {
            let (mut shares, mut held) = (Shares::new(200), Vec::new());
            for (number, some, takes) in steps {
                if takes {
                    let free = 200 - shares.held();
                    let own: usize = held.iter().filter(|(who, _)| *who == number).map(|(_, some)| some).sum();
                    assert_eq!(shares.take(client(number), some), own + some <= free);
                    if own + some <= free {
                        held.push((number, some));
                    }
                } else if let Some((number, some)) = held.pop() {
                    shares.give(client(number), some);
                }
                assert_eq!(shares.held(), held.iter().map(|(_, some)| some).sum::<usize>());
            }
            held.drain(..).for_each(|(number, some)| shares.give(client(number), some));
            assert_eq!((shares.held(), shares.by.len()), (0, 0));
        }
    }
}
