//! Watch the kernel for what others change of ours, and put it right by the code that made it.
//!
//! ```text
//! nf_tables: a transaction ─┐
//! rtnetlink: link, address ─┼─► compare found with wanted ─► one transaction ─► forget flows of the gap,
//! every minute ─────────────┘            (equal: nothing)                       beside what comes next
//! ```
//!
//! A change that is not ours costs one look at our table. Repairs are rate-limited: two that fight must not burn the
//! processor, and a pause of the bucket's refill is the longest our rules are wrong then.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::exit::error_chain;
use crate::net::Mapping;
use crate::nft::dump::Transaction;
use crate::nft::{Generation, Ruleset};
use crate::sys::netlink::watch::{LinkChanges, Transactions};
use crate::sys::netlink::{self, Firewall};

/// A look without being told, should a message have gone astray.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Changes of links come in swarms; one look serves all that come so close together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Repairs that may follow one another at once, and how long it takes until there is one more.
const BURST: u32 = 50;
const REFILL: Duration = Duration::from_millis(20);

/// The rules as they should be, and whom they are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub nat: Ruleset,
    pub mapping: Mapping,
}

/// What only the verb can do: it knows plan and links.
pub trait Pod {
    /// Makes the links be as planned; whether anything had to be done. The error is told.
    fn mend_links(&self) -> impl Future<Output = Result<bool, String>>;
    /// The rules for the pod as it is now.
    fn rules(&self) -> impl Future<Output = Result<Rules, String>>;
}

/// How often what had to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub rules_restored: u64,
    pub links_mended: u64,
    pub addresses_changed: u64,
}

/// Watches until told to stop, and tells what it did on `counts`.
pub async fn run(
    firewall: &Firewall,
    rules: Rules,
    pod: &impl Pod,
    counts: &watch::Sender<Counts>,
    mut stop: watch::Receiver<bool>,
) {
    let flows = Flows::default();
    let mut observer = Observer {
        firewall,
        flows: &flows,
        rules,
        tokens: TokenBucket::new(),
        counts,
        seen: None,
        quiet: false,
        unclear: None,
    };
    let watching = async {
        loop {
            let Err(error) = observer.watch(pod).await;
            tracing::error!(error = %error_chain(&error), "watching failed, restarting");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        never = watching => never,
        never = flows.forget(firewall) => match never {},
    }
}

/// Flows to forget: of a table as large as the guest has made it, so no repair waits for it. What comes meanwhile is done
/// at once after.
#[derive(Default)]
struct Flows {
    due: Mutex<Due>,
    added: Notify,
}

#[derive(Default)]
struct Due {
    /// Addresses that the pod has no more.
    gone: BTreeSet<IpAddr>,
    /// What was not mapped by this, and should have been.
    unmapped: Option<Mapping>,
}

impl Flows {
    fn add(&self, gone: impl IntoIterator<Item = IpAddr>, mapping: &Mapping) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.gone.extend(gone);
        due.gone.retain(|address| mapping.addresses().all(|is| is != *address));
        due.unmapped = Some(mapping.clone());
        self.added.notify_one();
    }

    async fn forget(&self, firewall: &Firewall) -> Infallible {
        loop {
            self.added.notified().await;
            let Due { gone, unmapped } =
                std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner));
            if !gone.is_empty() {
                match firewall.forget(gone.into_iter().collect()).await {
                    Ok(flows) => {
                        tracing::info!(flows, "deleted conntrack entries of the old address");
                    }
                    Err(error) => {
                        tracing::warn!(error = %error_chain(&error), "conntrack entries of the old address were not deleted");
                    }
                }
            }
            let Some(mapping) = unmapped else { continue };
            match firewall.sweep(mapping).await {
                Ok(0) => {}
                Ok(flows) => tracing::info!(flows, "deleted stale conntrack entries"),
                Err(error) => {
                    tracing::warn!(error = %error_chain(&error), "stale conntrack entries were not deleted");
                }
            }
        }
    }
}

struct Observer<'a> {
    firewall: &'a Firewall,
    flows: &'a Flows,
    rules: Rules,
    tokens: TokenBucket,
    counts: &'a watch::Sender<Counts>,
    /// The generation in which our rules were last known to hold.
    seen: Option<Generation>,
    /// That repairs are put off was said.
    quiet: bool,
    /// Why the pod's address is not clear, which was said.
    unclear: Option<String>,
}

/// Never returns without an error.
enum Never {}

impl Observer<'_> {
    async fn watch(&mut self, pod: &impl Pod) -> Result<Never, netlink::Error> {
        let mut transactions = Transactions::open()?;
        let mut links = LinkChanges::open()?;
        let mut recheck = interval(RECHECK_INTERVAL);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The first tick is at once: what happened while nobody listened is seen then.
            tokio::select! {
                transaction = transactions.next() => {
                    let transaction = transaction?;
                    let known = transaction.as_ref().is_some_and(|found| Some(found.generation) == self.seen);
                    if !known {
                        self.restore(transaction.as_ref()).await?;
                    }
                }
                change = links.next() => {
                    change?;
                    let debounce = sleep_until(Instant::now() + DEBOUNCE);
                    tokio::pin!(debounce);
                    loop {
                        tokio::select! {
                            () = &mut debounce => break,
                            change = links.next() => change?,
                        }
                    }
                    self.links(pod).await?;
                }
                _ = recheck.tick() => {
                    self.restore(None).await?;
                    self.links(pod).await?;
                }
            }
        }
    }

    /// Our table as it should be, whatever was done to it.
    async fn restore(&mut self, by: Option<&Transaction>) -> Result<(), netlink::Error> {
        if !self.tokens.has_one() {
            if self.firewall.holds(self.rules.nat.clone()).await? {
                return Ok(());
            }
            if !self.quiet {
                self.quiet = true;
                let (process, pid) = who(by);
                tracing::warn!(
                    process,
                    pid,
                    "our rules are changed again and again: restoring them less often"
                );
            }
            self.tokens.next().await;
        } else if self.tokens.is_full() {
            self.quiet = false;
        }
        let (generation, changed) = self.firewall.restore(self.rules.nat.clone()).await?;
        self.seen = Some(generation);
        if changed {
            self.tokens.take();
            self.counts.send_modify(|counts| counts.rules_restored += 1);
            if !self.quiet {
                let (process, pid) = who(by);
                tracing::warn!(process, pid, generation, "our rules were changed, restored");
            }
            self.flows.add([], &self.rules.mapping);
        }
        Ok(())
    }

    /// Links as planned, then the rules for whatever addresses there are now.
    async fn links(&mut self, pod: &impl Pod) -> Result<(), netlink::Error> {
        match pod.mend_links().await {
            Ok(false) => {}
            Ok(true) => {
                self.counts.send_modify(|counts| counts.links_mended += 1);
                tracing::warn!("our links were changed, mended");
            }
            Err(error) => tracing::error!(error, "our links could not be mended"),
        }
        let now = match pod.rules().await {
            Ok(now) => now,
            // Between two addresses there may be none: the rules stay until there is one.
            Err(error) => {
                if self.unclear.as_ref() != Some(&error) {
                    tracing::warn!(error, "the pod's address is not clear, rules stay as they are");
                }
                self.unclear = Some(error);
                return Ok(());
            }
        };
        self.unclear = None;
        if now == self.rules {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.rules, now);
        let (generation, _) = self.firewall.restore(self.rules.nat.clone()).await?;
        self.seen = Some(generation);
        if before.mapping == self.rules.mapping {
            tracing::info!("what the guest has of the pod, or its routes, changed: rules follow");
            return Ok(());
        }
        self.counts.send_modify(|counts| counts.addresses_changed += 1);
        let before: Vec<IpAddr> = before.mapping.addresses().collect();
        let now: Vec<IpAddr> = self.rules.mapping.addresses().collect();
        tracing::warn!(from = ?before, to = ?now, "the pod's address changed, remapped");
        self.flows.add(before, &self.rules.mapping);
        Ok(())
    }
}

fn who(by: Option<&Transaction>) -> (&str, u32) {
    by.map_or(("unknown", 0), |by| (by.process.as_str(), by.pid))
}

/// So many repairs at once, and one more every so often (a token bucket).
struct TokenBucket {
    left: u32,
    since: Instant,
}

impl TokenBucket {
    fn new() -> Self {
        Self { left: BURST, since: Instant::now() }
    }

    fn refill(&mut self) {
        let more =
            u32::try_from(self.since.elapsed().as_millis() / REFILL.as_millis()).unwrap_or(BURST);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST);
            self.since += REFILL * more;
        }
    }

    fn has_one(&mut self) -> bool {
        self.refill();
        self.left > 0
    }

    fn is_full(&mut self) -> bool {
        self.refill();
        self.left == BURST
    }

    fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    async fn next(&mut self) {
        while !self.has_one() {
            sleep_until(self.since + REFILL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn repairs_are_rate_limited_and_the_bucket_fills_up_again() {
        let mut tokens = TokenBucket::new();
        for _ in 0..BURST {
            assert!(tokens.has_one());
            tokens.take();
        }
        assert!(!tokens.has_one());
        let before = Instant::now();
        tokens.next().await;
        assert_eq!(before.elapsed(), REFILL);
        tokens.take();
        assert!(!tokens.has_one());
        tokio::time::sleep(REFILL * (BURST + 5)).await;
        assert!(tokens.is_full());
    }
}
