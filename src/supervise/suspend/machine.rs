//! What the supervisor does for a suspend or a resume, and hears of it.

use tokio::sync::oneshot;

use super::super::{Error, Machine};
use super::{Done, Way, offset_ms};
use crate::proto::lifecycle::Input;

/// What a suspend or a resume tells the supervisor.
pub(in super::super) enum Heard {
    Done(Done),
    Asked(oneshot::Sender<Result<(), String>>),
}

/// Cancel-safe; never resolves where nothing is under way and nobody can ask.
pub(in super::super) async fn heard(way: &mut Option<Way>) -> Heard {
    match way {
        Some(way) if way.task.is_some() => Heard::Done(way.done().await),
        Some(way) => Heard::Asked(way.asked().await),
        None => std::future::pending().await,
    }
}

impl Machine<'_> {
    /// Before a guest is booted.
    pub(in super::super) async fn renew(&mut self) -> Result<(), Error> {
        match &mut self.suspend {
            Some(way) => way.cold().await,
            None => Ok(()),
        }
    }

    pub(in super::super) fn save(&mut self) {
        if let Some(way) = &mut self.suspend {
            tracing::info!("suspending the guest");
            way.save(&self.ready, self.attempt);
        }
    }

    pub(in super::super) fn load(&mut self) {
        if let Some(way) = &mut self.suspend {
            way.load();
        }
    }

    pub(in super::super) fn give_up(&self) {
        if let Some(way) = &self.suspend {
            way.give_up();
        }
    }

    /// QEMU has ended.
    pub(in super::super) async fn end_save(&mut self) {
        if let Some(way) = &mut self.suspend {
            way.finish().await;
        }
    }

    pub(in super::super) fn hear(&mut self, heard: Heard) -> Option<Input> {
        let way = self.suspend.as_mut()?;
        let done = match heard {
            Heard::Asked(asked) if way.turn.is_some() => {
                let _ = asked.send(Ok(()));
                return None;
            }
            Heard::Asked(asked) if !self.core.can_suspend() => {
                let _ = asked.send(Err("the guest does not run".to_owned()));
                return None;
            }
            Heard::Asked(asked) => {
                way.waits(asked);
                return Some(Input::Suspend);
            }
            Heard::Done(done) => done,
        };
        let path = way.files.path().display();
        let how = done.to_string();
        self.status.send_modify(|status| status.suspend = Some(how));
        Some(match done {
            Done::Saved { bytes, took_ms, turn } => {
                way.turn = Some(turn);
                tracing::info!(image = %path, bytes, took_ms, "the guest is suspended");
                way.answer(&Ok(()));
                Input::Saved
            }
            Done::NotSaved { why, may_run } => {
                tracing::warn!(image = %path, "the guest is not suspended: {why}");
                way.answer(&Err(why.to_string()));
                Input::NotSaved { may_run }
            }
            Done::Loaded { saved_at_ms, took_ms, notes, turn: _turn } => {
                let behind_ms = offset_ms(saved_at_ms);
                tracing::info!(image = %path, took_ms, behind_ms, "the guest is resumed");
                way.set_clock(saved_at_ms);
                self.status.send_modify(|status| status.is_resumed = true);
                Input::Loaded { anew: way.is_told_anew(&notes) }
            }
            Done::NotLoaded { why } => {
                way.refusal = Some(why.to_string());
                Input::NotLoaded
            }
        })
    }

    /// QEMU has ended without a guest: it said why, or we know.
    pub(in super::super) fn not_resumed(&mut self) {
        let said = self.qemu.as_ref().map(super::super::Qemu::last_said).unwrap_or_default();
        let Some(way) = &mut self.suspend else { return };
        let why = way.refusal.take().unwrap_or_else(|| "QEMU ended".to_owned());
        let said = if said.is_empty() { said } else { format!(" ({said})") };
        way.tell_refused(&format!("{why}{said}"), self.status);
    }
}
