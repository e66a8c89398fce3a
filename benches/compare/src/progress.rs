//! A line that says how far a run is.

use std::io::{IsTerminal, Write, stderr};

/// Overwrites one line of the terminal; nothing where there is none.
pub(crate) fn show(text: &str) {
    let mut terminal = stderr();
    if terminal.is_terminal() {
        let _ = write!(terminal, "\r\x1b[K{text}");
        let _ = terminal.flush();
    }
}
