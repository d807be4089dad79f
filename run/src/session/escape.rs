//! The escape key of the interactive terminal: Ctrl-A, as in QEMU and screen.

/// What the user's input means.
#[derive(Debug, PartialEq, Eq)]
pub struct Typed {
    /// What is meant for the machine.
    pub input: Vec<u8>,
    /// Whether the user wants to leave.
    pub leave: bool,
}

/// Recognises escapes in typed input, across chunks.
#[derive(Debug, Default)]
pub struct Escape {
    pending: bool,
}

const CTRL_A: u8 = 1;

impl Escape {
    /// Takes typed input. Ctrl-A X leaves, Ctrl-A A types one Ctrl-A, and Ctrl-A before another
    /// key is dropped.
    pub fn typed(&mut self, bytes: &[u8]) -> Typed {
        let mut input = Vec::with_capacity(bytes.len());
        for byte in bytes {
            match (std::mem::take(&mut self.pending), *byte) {
                (false, CTRL_A) => self.pending = true,
                (true, b'x' | b'X') => return Typed { input, leave: true },
                (true, b'a' | b'A' | CTRL_A) => input.push(CTRL_A),
                (_, byte) => input.push(byte),
            }
        }
        Typed {
            input,
            leave: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_x_leaves_even_in_two_chunks() {
        let mut escape = Escape::default();
        assert_eq!(
            escape.typed(b"ls\x01"),
            Typed {
                input: b"ls".to_vec(),
                leave: false
            }
        );
        assert_eq!(
            escape.typed(b"x"),
            Typed {
                input: Vec::new(),
                leave: true
            }
        );
    }

    #[test]
    fn ctrl_a_can_be_typed() {
        assert_eq!(
            Escape::default().typed(b"\x01a\x01\x01x\x01b").input,
            b"\x01\x01xb"
        );
    }
}
