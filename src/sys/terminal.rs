//! The terminal on our stdin, when there is one (`termios(3)`): keys go to the guest one by one, without echo.

use std::io::{IsTerminal, stdin};

use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Key-by-key input as long as this lives; Ctrl-C still raises SIGINT.
#[derive(Debug)]
pub struct KeyByKey {
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
        keys.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
        keys.input_modes.remove(InputModes::ICRNL);
        tcsetattr(stdin(), OptionalActions::Now, &keys).ok()?;
        Some(Self { before })
    }
}

impl Drop for KeyByKey {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
