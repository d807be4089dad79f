//! Keyboard with 101/102 keys, scan code set 2.
//!
//! Follows the IBM PS/2 hardware interface technical reference, "Keyboards (101- and 102-key)".

use super::queue::Queue;

mod reply {
    pub const ACK: u8 = 0xfa;
    pub const RESEND: u8 = 0xfe;
    pub const ECHO: u8 = 0xee;
    pub const SELF_TEST_PASSED: u8 = 0xaa;
    /// MF2 keyboard.
    pub const IDENTITY: [u8; 2] = [0xab, 0x83];
}

const RELEASE_PREFIX: u8 = 0xf0;
const EXTENDED_PREFIX: u8 = 0xe0;
const SCAN_CODE_SET: u8 = 2;
/// Argument of "select scan code set" that asks for the present one.
const QUERY_SET: u8 = 0;

/// A command of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Leds,
    Echo,
    SelectSet,
    Identify,
    Typematic,
    Enable,
    DefaultsDisable,
    Defaults,
    Resend,
    Reset,
    Unknown,
}

impl Command {
    const fn decode(byte: u8) -> Self {
        match byte {
            0xed => Self::Leds,
            0xee => Self::Echo,
            0xf0 => Self::SelectSet,
            0xf2 => Self::Identify,
            0xf3 => Self::Typematic,
            0xf4 => Self::Enable,
            0xf5 => Self::DefaultsDisable,
            0xf6 => Self::Defaults,
            0xfe => Self::Resend,
            0xff => Self::Reset,
            _ => Self::Unknown,
        }
    }

    const fn has_argument(self) -> bool {
        matches!(self, Self::Leds | Self::SelectSet | Self::Typematic)
    }
}

/// A key by its scan code of set 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The make code.
    pub code: u8,
    /// Whether the code follows an 0xe0 prefix.
    pub extended: bool,
}

/// The lights, as bits of the command's argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leds(u8);

impl Leds {
    const NUM: u8 = 1 << 1;
    const CAPS: u8 = 1 << 2;

    /// Whether Num Lock shines.
    #[must_use]
    pub const fn num(self) -> bool {
        self.0 & Self::NUM != 0
    }

    /// Whether Caps Lock shines.
    #[must_use]
    pub const fn caps(self) -> bool {
        self.0 & Self::CAPS != 0
    }
}

/// A PS/2 keyboard.
#[derive(Debug)]
pub struct Keyboard {
    output: Queue,
    scanning: bool,
    leds: Leds,
    pending: Option<Command>,
    last_sent: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyboard {
    /// A keyboard after power-on, scanning.
    #[must_use]
    pub const fn new() -> Self {
        Self { output: Queue::new(), scanning: true, leds: Leds(0), pending: None, last_sent: 0 }
    }

    /// A key goes down or up. `false` where it is lost, because the host does not listen or has not
    /// emptied the buffer. Afterwards the controller must be polled.
    pub fn key(&mut self, key: Key, pressed: bool) -> bool {
        let mut bytes = [0; 3];
        let mut len = 0;
        let prefixes = [(EXTENDED_PREFIX, key.extended), (RELEASE_PREFIX, !pressed), (key.code, true)];
        for (byte, _) in prefixes.into_iter().filter(|(_, present)| *present) {
            if let Some(slot) = bytes.get_mut(len) {
                *slot = byte;
                len += 1;
            }
        }
        self.scanning && bytes.get(..len).is_some_and(|bytes| self.output.push(bytes))
    }

    /// The lights as the host set them.
    #[must_use]
    pub const fn leds(&self) -> Leds {
        self.leds
    }

    /// The next byte for the host.
    pub fn take(&mut self) -> Option<u8> {
        let byte = self.output.pop()?;
        self.last_sent = byte;
        Some(byte)
    }

    /// The host sends a byte.
    pub fn receive(&mut self, byte: u8) {
        match (self.pending.take(), Command::decode(byte)) {
            // A command where an argument should be ends the earlier command.
            (Some(command), Command::Unknown) => self.argument(command, byte),
            (_, command) => self.command(command),
        }
    }

    fn command(&mut self, command: Command) {
        if command == Command::Resend {
            self.output.push(&[self.last_sent]);
            return;
        }
        // A command discards what has not been sent.
        self.output.clear();
        if command.has_argument() {
            self.pending = Some(command);
        }
        match command {
            Command::Echo => self.send(&[reply::ECHO]),
            Command::Unknown => self.send(&[reply::RESEND]),
            Command::Identify => {
                self.send(&[reply::ACK]);
                self.send(&reply::IDENTITY);
            }
            Command::Reset => {
                *self = Self::new();
                self.send(&[reply::ACK, reply::SELF_TEST_PASSED]);
            }
            _ => self.send(&[reply::ACK]),
        }
        match command {
            Command::Enable | Command::Defaults => self.scanning = true,
            Command::DefaultsDisable => self.scanning = false,
            _ => {}
        }
    }

    fn argument(&mut self, command: Command, byte: u8) {
        match (command, byte) {
            (Command::Leds, _) => self.leds = Leds(byte),
            (Command::SelectSet, QUERY_SET) => {
                self.send(&[reply::ACK, SCAN_CODE_SET]);
                return;
            }
            (Command::SelectSet, SCAN_CODE_SET) => {}
            (Command::SelectSet, _) => {
                self.send(&[reply::RESEND]);
                return;
            }
            // The host repeats keys itself: the rate has no effect here.
            _ => {}
        }
        self.send(&[reply::ACK]);
    }

    /// Replies fit: the buffer was emptied before the first.
    fn send(&mut self, bytes: &[u8]) {
        self.output.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn replies(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<u8> {
        bytes.iter().for_each(|byte| keyboard.receive(*byte));
        core::iter::from_fn(|| keyboard.take()).collect()
    }

    const A: Key = Key { code: 0x1c, extended: false };
    const UP: Key = Key { code: 0x75, extended: true };

    #[test]
    fn answers_commands() {
        let mut keyboard = Keyboard::new();
        assert_eq!(replies(&mut keyboard, &[0xf2]), [0xfa, 0xab, 0x83]);
        assert_eq!(replies(&mut keyboard, &[0xff]), [0xfa, 0xaa]);
        assert_eq!(replies(&mut keyboard, &[0xee]), [0xee]);
        assert_eq!(replies(&mut keyboard, &[0x01]), [0xfe]);
        assert_eq!(replies(&mut keyboard, &[0xf0]), [0xfa]);
        assert_eq!(replies(&mut keyboard, &[0x00]), [0xfa, 0x02]);
        assert_eq!(replies(&mut keyboard, &[0xfe]), [0x02]);
        assert_eq!(replies(&mut keyboard, &[0xed]), [0xfa]);
        assert_eq!(replies(&mut keyboard, &[0x04]), [0xfa]);
        assert!(keyboard.leds().caps() && !keyboard.leds().num());
    }

    #[test]
    fn sends_set_2_codes_while_enabled() {
        let mut keyboard = Keyboard::new();
        assert!(keyboard.key(A, true) && keyboard.key(A, false) && keyboard.key(UP, false));
        let codes = replies(&mut keyboard, &[]);
        assert_eq!(codes, [0x1c, 0xf0, 0x1c, 0xe0, 0xf0, 0x75]);
        assert_eq!(replies(&mut keyboard, &[0xf5]), [0xfa]);
        assert!(!keyboard.key(A, true));
        assert_eq!(replies(&mut keyboard, &[0xf4]), [0xfa]);
        assert!(keyboard.key(A, true));
        assert_eq!(replies(&mut keyboard, &[0xee]), [0xee], "a command discards keys");
        assert_eq!(replies(&mut keyboard, &[0xf4]), [0xfa]);
        assert!(keyboard.key(A, true));
    }

    proptest! {
        #[test]
        fn keys_arrive_whole_or_not_at_all(events in proptest::collection::vec(any::<bool>(), 0..40)) {
            let mut keyboard = Keyboard::new();
            let sent: usize = events.iter().filter(|pressed| keyboard.key(UP, **pressed)).map(|pressed| if *pressed { 2 } else { 3 }).sum();
            prop_assert_eq!(replies(&mut keyboard, &[]).len(), sent);
        }

        #[test]
        fn every_byte_is_answered(bytes: Vec<u8>) {
            let mut keyboard = Keyboard::new();
            for byte in bytes {
                prop_assert!(!replies(&mut keyboard, &[byte]).is_empty());
            }
        }
    }
}
