//! One question at a time: what is not answered in time stays asked, and nothing more is asked until it has ended.

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Work that may outlast who asked for it.
#[derive(Debug)]
pub(super) struct Single<T>(Option<JoinHandle<T>>);

impl<T> Default for Single<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Single<T> {
    /// The answer of a task of its own; None: not in time, or an earlier one has not ended.
    pub async fn get<F>(&mut self, deadline: Instant, start: impl FnOnce() -> F) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.wait(deadline, || tokio::spawn(start())).await
    }

    /// The same on a thread for what blocks.
    pub async fn blocking(
        &mut self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.wait(deadline, || tokio::task::spawn_blocking(work)).await
    }

    async fn wait(
        &mut self,
        deadline: Instant,
        start: impl FnOnce() -> JoinHandle<T>,
    ) -> Option<T> {
        if self.0.as_ref().is_some_and(|earlier| !earlier.is_finished()) {
            return None;
        }
        let task = self.0.insert(start());
        let answer = timeout_at(deadline, &mut *task).await.ok()?;
        self.0 = None;
        answer.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_asked_once_and_again_when_it_has_ended() {
        let mut single = Single::default();
        let (asked, go) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Notify::new()));
        let soon = || Instant::now() + Duration::from_millis(20);
        for _ in 0..5 {
            let (asked, go) = (asked.clone(), go.clone());
            let answer = single.get(soon(), || async move {
                asked.fetch_add(1, Ordering::Relaxed);
                go.notified().await;
                1
            });
            assert_eq!(answer.await, None);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        go.notify_one();
        while single.0.as_ref().is_some_and(|task| !task.is_finished()) {
            tokio::task::yield_now().await;
        }
        assert_eq!(single.get(soon(), || async { 2 }).await, Some(2), "an old answer is none");
        assert_eq!(single.blocking(soon(), || 3).await, Some(3));
    }
}
