//! What follows the guest's own end, when it is ready, and how long its end may take.

use std::time::Duration;

use super::options::Options;
use super::parse::{Wrong, any, set, within};
use super::{Lifecycle, OnNetLost, OnPanic, OnPoweroff, OnReboot, OnStop, Resume};

impl Options {
    pub(super) fn lifecycle(&self, wrong: &mut Wrong) -> Lifecycle {
        let grace = wrong.or("BERTH_GRACE_S", &self.grace, 25, "seconds from 1 to 86400", |text| {
            within(text, 1, 86_400)
        });
        let margin = wrong.or(
            "BERTH_GRACE_MARGIN_S",
            &self.grace_margin,
            grace.min(2),
            "seconds, at most BERTH_GRACE_S",
            |text| within(text, 0, grace),
        );
        let on_reboot = wrong.word(
            "BERTH_ON_REBOOT",
            &self.on_reboot,
            OnReboot::Reset,
            &[("reset", OnReboot::Reset), ("exit", OnReboot::Exit)],
        );
        Lifecycle {
            on_poweroff: wrong.word(
                "BERTH_ON_POWEROFF",
                &self.on_poweroff,
                OnPoweroff::Exit,
                &[("exit", OnPoweroff::Exit), ("restart", OnPoweroff::Restart)],
            ),
            on_reboot,
            on_panic: self.on_panic(on_reboot, wrong),
            on_stop: wrong.word(
                "BERTH_ON_STOP",
                &self.on_stop,
                OnStop::Poweroff,
                &[("poweroff", OnStop::Poweroff), ("suspend", OnStop::Suspend)],
            ),
            resume: wrong.word(
                "BERTH_RESUME",
                &self.resume,
                Resume::Auto,
                &[("auto", Resume::Auto), ("require", Resume::Require), ("off", Resume::Off)],
            ),
            on_net_lost: wrong.word(
                "BERTH_ON_NET_LOST",
                &self.on_net_lost,
                OnNetLost::Wait,
                &[("wait", OnNetLost::Wait), ("exit", OnNetLost::Exit)],
            ),
            ready: wrong.ready(set(&self.ready), any(&self.no_dhcp).is_none()),
            grace: Duration::from_secs(grace),
            margin: Duration::from_secs(margin),
        }
    }

    fn on_panic(&self, on_reboot: OnReboot, wrong: &mut Wrong) -> OnPanic {
        let words = [("exit", OnPanic::Exit), ("reset", OnPanic::Reset), ("pause", OnPanic::Pause)];
        let on_panic = wrong.word("BERTH_ON_PANIC", &self.on_panic, OnPanic::Exit, &words);
        if (on_panic, on_reboot) == (OnPanic::Reset, OnReboot::Exit) {
            let reason = "BERTH_ON_REBOOT=exit has QEMU end at any reset: expected exit or pause";
            wrong.refuse("BERTH_ON_PANIC", "reset", reason.to_owned());
        }
        on_panic
    }
}
