//! The terminal on our stdin, when there is one (`termios(3)`): keys go to the guest one by one, without echo.
//!
//! All of them but one: Ctrl-C, Ctrl-\\, Ctrl-Z, Ctrl-S and Ctrl-Q are the guest's. Ctrl-] is the terminal's interrupt
//! character instead of Ctrl-C: SIGINT, which the kernel sends even when nobody reads the keys any more.

use std::io::{IsTerminal, stdin, stdout};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush,
    tcgetattr, tcsetattr,
};

use super::stdio;

/// Ctrl-].
const ESCAPE: u8 = 0x1d;
/// `_POSIX_VDISABLE`: no key has this meaning.
const NO_KEY: u8 = 0;

/// Key-by-key input as long as this lives.
#[derive(Debug)]
pub(crate) struct KeyByKey {
    before: Termios,
}

impl KeyByKey {
    /// None when stdin is not a terminal, or one that cannot be set.
    pub fn enter() -> Option<Self> {
        if !stdin().is_terminal() {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut keys = before.clone();
        keys.local_modes.remove(
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN,
        );
        // What is under way to either side is not thrown away by the interrupt.
        keys.local_modes.insert(LocalModes::ISIG | LocalModes::NOFLSH);
        keys.input_modes.remove(
            InputModes::ICRNL
                | InputModes::INLCR
                | InputModes::IGNCR
                | InputModes::ISTRIP
                | InputModes::IXON,
        );
        let codes = &mut keys.special_codes;
        codes[SpecialCodeIndex::VINTR] = ESCAPE;
        for signal in [SpecialCodeIndex::VQUIT, SpecialCodeIndex::VSUSP] {
            codes[signal] = NO_KEY;
        }
        (codes[SpecialCodeIndex::VMIN], codes[SpecialCodeIndex::VTIME]) = (1, 0);
        tcsetattr(stdin(), OptionalActions::Now, &keys).ok()?;
        Some(Self { before })
    }
}

impl Drop for KeyByKey {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// All keys are the guest's, and what it writes is written as it is (cfmakeraw(3)); the terminal as it was when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
    raw: Termios,
}

impl Raw {
    /// What programs of the guest may have left set on the user's terminal: modes (DECSTR), the alternate screen, the mouse,
    /// brackets around what is pasted.
    const SANE: &[u8] = b"\x1b[!p\x1b[?47l\x1b[?1000;1002;1003;1006;2004l\x1b[0m\r\n";

    /// None when stdin is not a terminal, or one that cannot be set.
    pub fn enter() -> Option<Self> {
        if !stdin().is_terminal() {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before, raw })
    }

    /// Sets it again, after somebody else had the terminal.
    pub fn again(&self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.raw);
    }

    /// Gives the terminal back, and undoes what the guest's programs did to it.
    pub fn leave(self) {
        if stdout().is_terminal() {
            let _ = stdio::stdout().try_write(Self::SANE);
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The rest of a paste was for the guest, and not for the shell that reads next.
        let _ = tcflush(stdin(), QueueSelector::IFlush);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
