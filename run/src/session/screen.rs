//! The user's screen: it shows one terminal at a time.

use std::collections::VecDeque;

use crate::machine::terminal::Terminal;

/// How much of a terminal's output is shown again when the user turns to it: about a screenful.
const RECENT: usize = 2048;

/// What has been shown, and what would be.
#[derive(Debug)]
pub struct Screen {
    shown: Terminal,
    recent: Vec<VecDeque<u8>>,
}

impl Screen {
    /// The screen of a machine with `count` terminals, at the first.
    pub fn new(count: usize) -> Self {
        Self { shown: Terminal::First, recent: vec![VecDeque::new(); count] }
    }

    /// The terminal that is shown: input is for this one.
    pub const fn shown(&self) -> Terminal {
        self.shown
    }

    /// Takes output of a terminal; what is returned is to be displayed.
    pub fn output<'a>(&mut self, terminal: Terminal, output: &'a [u8]) -> &'a [u8] {
        if let Some(recent) = self.recent.get_mut(terminal.index()) {
            recent.extend(output);
            let excess = recent.len().saturating_sub(RECENT);
            recent.drain(..excess);
        }
        if terminal == self.shown { output } else { &[] }
    }

    /// Turns to another terminal; what is returned is to be displayed.
    pub fn show(&mut self, terminal: Terminal) -> Vec<u8> {
        let number = terminal.number();
        let Some(recent) = self.recent.get(terminal.index()) else {
            return format!("\r\n[there is no terminal {number}]\r\n").into_bytes();
        };
        self.shown = terminal;
        let mut display = format!("\r\n[terminal {number}]\r\n").into_bytes();
        display.extend(whole_lines(recent));
        display
    }
}

/// Output from its first line start on, where something has been cut off.
fn whole_lines(recent: &VecDeque<u8>) -> impl Iterator<Item = u8> {
    let cut = if recent.len() < RECENT {
        0
    } else {
        let line_end = recent.iter().position(|byte| *byte == b'\n');
        line_end.map_or(0, |position| position + 1)
    };
    recent.iter().skip(cut).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_terminal_is_shown_at_a_time() {
        let mut screen = Screen::new(2);
        assert_eq!(screen.output(Terminal::First, b"a"), b"a");
        assert_eq!(screen.output(Terminal::Second, b"b"), b"");
        assert_eq!(screen.show(Terminal::Second), b"\r\n[terminal 2]\r\nb");
        assert_eq!(screen.shown(), Terminal::Second);
        assert_eq!(screen.output(Terminal::First, b"a"), b"");
        assert_eq!(screen.output(Terminal::Second, b"c"), b"c");
        assert_eq!(screen.show(Terminal::First), b"\r\n[terminal 1]\r\naa");
    }

    #[test]
    fn a_terminal_that_is_not_there_is_not_shown() {
        let mut screen = Screen::new(1);
        assert_eq!(screen.show(Terminal::Third), b"\r\n[there is no terminal 3]\r\n");
        assert_eq!(screen.shown(), Terminal::First);
    }

    #[test]
    fn only_recent_whole_lines_are_shown_again() {
        let mut screen = Screen::new(1);
        let mut long = vec![b'x'; RECENT];
        long.extend_from_slice(b"\nlast\n# ");
        screen.output(Terminal::First, &long);
        assert_eq!(screen.show(Terminal::First), b"\r\n[terminal 1]\r\nlast\n# ");
    }
}
