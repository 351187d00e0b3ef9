//! The terminal on our stdin, when there is one (`termios(3)`): keys go to the guest one by one, without echo.
//!
//! All of them but one: Ctrl-C, Ctrl-\\, Ctrl-Z, Ctrl-S and Ctrl-Q are the guest's. Ctrl-] is the terminal's interrupt
//! character instead of Ctrl-C: SIGINT, which the kernel sends even when nobody reads the keys any more.

use std::io::{IsTerminal, stdin};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

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
