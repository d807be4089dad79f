//! The escape key of the interactive terminal: Ctrl-A, as in QEMU and screen.

use crate::machine::terminal::Terminal;

/// What the user means by some keys.
#[derive(Debug, PartialEq, Eq)]
pub enum Intent {
    /// Type this.
    Type(Vec<u8>),
    /// Look at another terminal.
    Show(Terminal),
    /// Leave.
    Leave,
}

/// Recognises escapes in typed input, across chunks.
#[derive(Debug, Default)]
pub struct Escape {
    pending: bool,
}

const CTRL_A: u8 = 1;

impl Escape {
    /// Takes typed input. Ctrl-A X leaves, Ctrl-A and a digit shows the terminal of this number, Ctrl-A Ctrl-A (or
    /// Ctrl-A A) types one Ctrl-A, and Ctrl-A before another key is dropped.
    pub fn typed(&mut self, bytes: &[u8]) -> Vec<Intent> {
        let mut intents = Vec::new();
        for byte in bytes {
            match (std::mem::take(&mut self.pending), *byte) {
                (false, CTRL_A) => self.pending = true,
                (true, b'x' | b'X') => {
                    intents.push(Intent::Leave);
                    return intents;
                }
                (true, b'a' | b'A' | CTRL_A) => add(&mut intents, CTRL_A),
                (true, key) => match terminal(key) {
                    Some(terminal) => intents.push(Intent::Show(terminal)),
                    None => add(&mut intents, key),
                },
                (false, byte) => add(&mut intents, byte),
            }
        }
        intents
    }
}

/// The terminal that a digit names.
fn terminal(key: u8) -> Option<Terminal> {
    let number = usize::from(key.checked_sub(b'0')?);
    Terminal::ALL.into_iter().find(|terminal| terminal.number() == number)
}

fn add(intents: &mut Vec<Intent>, byte: u8) {
    match intents.last_mut() {
        Some(Intent::Type(input)) => input.push(byte),
        _ => intents.push(Intent::Type(vec![byte])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: &[u8]) -> Intent {
        Intent::Type(input.to_vec())
    }

    #[test]
    fn ctrl_a_x_leaves_even_in_two_chunks() {
        let mut escape = Escape::default();
        assert_eq!(escape.typed(b"ls\x01"), [text(b"ls")]);
        assert_eq!(escape.typed(b"xy"), [Intent::Leave]);
    }

    #[test]
    fn ctrl_a_can_be_typed() {
        assert_eq!(Escape::default().typed(b"\x01a\x01\x01x\x01b"), [text(b"\x01\x01xb")]);
    }

    #[test]
    fn ctrl_a_and_a_digit_shows_a_terminal() {
        assert_eq!(
            Escape::default().typed(b"one\x012two\x011"),
            [text(b"one"), Intent::Show(Terminal::Second), text(b"two"), Intent::Show(Terminal::First)]
        );
        assert_eq!(Escape::default().typed(b"2\x0109"), [text(b"209")]);
    }
}
