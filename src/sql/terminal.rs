//! The mode of the terminal while a statement runs, which keeps what is typed ahead.

use std::io;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Terminals that rustyline does not edit lines on, by `TERM`. There, the terminal itself does it.
const PLAIN: [&str; 3] = ["dumb", "cons25", "emacs"];

/// The terminal of standard input, which gets its first mode back on drop.
pub(super) struct Terminal {
    first: Option<Termios>,
}

impl Terminal {
    /// Passes typed bytes on as they are, except Ctrl-C and other signals.
    ///
    /// A terminal that edits lines turns Ctrl-D into an end of file, which is lost once the editor's mode applies, and
    /// truncates a line at 4,095 bytes.
    pub(super) fn uncooked() -> Terminal {
        let name = std::env::var_os("TERM").unwrap_or_default();
        if PLAIN.iter().any(|plain| name.eq_ignore_ascii_case(plain)) {
            return Terminal { first: None };
        }
        // Without a mode of its own, the terminal is not changed.
        let first = tcgetattr(io::stdin()).ok();
        if let Some(first) = &first {
            let mut mode = first.clone();
            mode.local_modes.remove(LocalModes::ICANON);
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &mode);
        }
        Terminal { first }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(first) = &self.first {
            // A terminal that is gone needs no mode.
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, first);
        }
    }
}
