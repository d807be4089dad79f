//! Mouse with three buttons, and a wheel for hosts that ask for it.
//!
//! Follows the IBM PS/2 hardware interface technical reference, "Mouse", and Microsoft's
//! IntelliMouse extension (sample rates 200, 100, 80 turn the wheel on).

use super::queue::Queue;

mod reply {
    pub const ACK: u8 = 0xfa;
    pub const NAK: u8 = 0xfe;
    pub const SELF_TEST_PASSED: u8 = 0xaa;
    pub const ID_STANDARD: u8 = 0;
    pub const ID_WHEEL: u8 = 3;
}

mod packet {
    pub const ALWAYS: u8 = 1 << 3;
    pub const X_NEGATIVE: u8 = 1 << 4;
    pub const Y_NEGATIVE: u8 = 1 << 5;
    /// Movement per packet is a nine-bit number.
    pub const MOST: i32 = 255;
    /// Wheel movement is a four-bit number.
    pub const MOST_WHEEL: i32 = 7;
}

mod status {
    pub const SCALING: u8 = 1 << 4;
    pub const REPORTING: u8 = 1 << 5;
    pub const REMOTE: u8 = 1 << 6;
}

const DEFAULT_RATE: u8 = 100;
const DEFAULT_RESOLUTION: u8 = 2;
const WHEEL_KNOCK: [u8; 3] = [200, 100, 80];
const RESET_WRAP: u8 = 0xec;
const RESET: u8 = 0xff;

/// Buttons held down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buttons(u8);

impl Buttons {
    /// The set of buttons held.
    #[must_use]
    pub const fn new(left: bool, right: bool, middle: bool) -> Self {
        Self(left as u8 | (right as u8) << 1 | (middle as u8) << 2)
    }
}

/// What the next byte of the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Command,
    SampleRate,
    Resolution,
}

/// A PS/2 mouse.
#[derive(Debug)]
pub struct Mouse {
    output: Queue,
    expect: Expect,
    reporting: bool,
    remote: bool,
    wrap: bool,
    wheel: bool,
    scaling: bool,
    resolution: u8,
    rates: [u8; 3],
    last_sent: u8,
    buttons: Buttons,
    reported: Buttons,
    x: i32,
    y: i32,
    z: i32,
}

impl Default for Mouse {
    fn default() -> Self {
        Self::new()
    }
}

impl Mouse {
    /// A mouse after power-on.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            output: Queue::new(),
            expect: Expect::Command,
            reporting: false,
            remote: false,
            wrap: false,
            wheel: false,
            scaling: false,
            resolution: DEFAULT_RESOLUTION,
            rates: [DEFAULT_RATE; 3],
            last_sent: 0,
            buttons: Buttons(0),
            reported: Buttons(0),
            x: 0,
            y: 0,
            z: 0,
        }
    }

    /// The pointer moves right by `x`, up by `y`, the wheel towards the user by `z`, with `buttons`
    /// held. Movements that the host has not fetched add up. Afterwards the controller must be polled.
    pub const fn motion(&mut self, x: i32, y: i32, z: i32, buttons: Buttons) {
        self.x = self.x.saturating_add(x);
        self.y = self.y.saturating_add(y);
        self.z = self.z.saturating_add(z);
        self.buttons = buttons;
    }

    /// The next byte for the host.
    pub fn take(&mut self) -> Option<u8> {
        let moved = self.x != 0 || self.y != 0 || self.z != 0 || self.buttons != self.reported;
        if self.output.is_empty() && self.reporting && !self.remote && moved {
            self.send_packet();
        }
        let byte = self.output.pop()?;
        self.last_sent = byte;
        Some(byte)
    }

    fn send_packet(&mut self) {
        let limit = |value: i32| value.clamp(-packet::MOST, packet::MOST);
        let (x, y) = (limit(self.x), limit(self.y));
        let z = self.z.clamp(-packet::MOST_WHEEL, packet::MOST_WHEEL);
        self.x -= x;
        self.y -= y;
        // Without a wheel there is nobody to scroll for.
        self.z = if self.wheel { self.z - z } else { 0 };
        self.reported = self.buttons;
        let sign = |value: i32, bit: u8| if value < 0 { bit } else { 0 };
        let first = packet::ALWAYS | self.buttons.0 | sign(x, packet::X_NEGATIVE) | sign(y, packet::Y_NEGATIVE);
        self.output.push(&[first, x as u8, y as u8]);
        if self.wheel {
            self.output.push(&[z as u8]);
        }
    }

    /// The host sends a byte.
    pub fn receive(&mut self, byte: u8) {
        self.output.clear();
        if self.wrap && byte != RESET_WRAP && byte != RESET {
            self.output.push(&[byte]);
            return;
        }
        match core::mem::replace(&mut self.expect, Expect::Command) {
            Expect::Command => self.command(byte),
            Expect::SampleRate => {
                let [_, second, third] = self.rates;
                self.rates = [second, third, byte];
                self.wheel |= self.rates == WHEEL_KNOCK;
                self.output.push(&[reply::ACK]);
            }
            Expect::Resolution => {
                self.resolution = byte;
                self.output.push(&[reply::ACK]);
            }
        }
    }

    fn command(&mut self, byte: u8) {
        let answer: &[u8] = match byte {
            0xfe => &[self.last_sent],
            0xe6..=0xf6 | RESET => &[reply::ACK],
            _ => &[reply::NAK],
        };
        self.output.push(answer);
        match byte {
            0xe6 => self.scaling = false,
            0xe7 => self.scaling = true,
            0xe8 => self.expect = Expect::Resolution,
            0xe9 => self.send_status(),
            0xea => self.remote = false,
            0xeb => self.send_packet(),
            RESET_WRAP => self.wrap = false,
            0xee => self.wrap = true,
            0xf0 => self.remote = true,
            0xf2 => {
                let id = if self.wheel { reply::ID_WHEEL } else { reply::ID_STANDARD };
                self.output.push(&[id]);
            }
            0xf3 => self.expect = Expect::SampleRate,
            0xf4 => self.reporting = true,
            0xf5 => self.reporting = false,
            0xf6 => self.set_defaults(),
            RESET => {
                *self = Self::new();
                self.output.push(&[reply::ACK, reply::SELF_TEST_PASSED, reply::ID_STANDARD]);
            }
            _ => {}
        }
    }

    fn set_defaults(&mut self) {
        self.reporting = false;
        self.remote = false;
        self.scaling = false;
        self.resolution = DEFAULT_RESOLUTION;
        self.rates = [DEFAULT_RATE; 3];
    }

    fn send_status(&mut self) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = flag(self.scaling, status::SCALING)
            | flag(self.reporting, status::REPORTING)
            | flag(self.remote, status::REMOTE);
        let [_, _, rate] = self.rates;
        self.output.push(&[flags | self.buttons.0, self.resolution, rate]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn replies(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for byte in bytes {
            mouse.receive(*byte);
            all.extend(core::iter::from_fn(|| mouse.take()));
        }
        all
    }

    #[test]
    fn answers_the_probe_and_turns_into_a_wheel_mouse() {
        let mut mouse = Mouse::new();
        assert_eq!(replies(&mut mouse, &[0xff]), [0xfa, 0xaa, 0x00]);
        assert_eq!(replies(&mut mouse, &[0xf2]), [0xfa, 0x00]);
        assert_eq!(replies(&mut mouse, &[0xf3, 200, 0xf3, 100, 0xf3, 80]), [0xfa; 6]);
        assert_eq!(replies(&mut mouse, &[0xf2]), [0xfa, 0x03]);
        assert_eq!(replies(&mut mouse, &[0xe8, 3, 0xe9]), [0xfa, 0xfa, 0xfa, 0x00, 3, 80]);
        assert_eq!(replies(&mut mouse, &[0x55]), [0xfe]);
    }

    #[test]
    fn movement_is_reported_when_enabled_and_in_parts() {
        let mut mouse = Mouse::new();
        mouse.motion(300, -2, 0, Buttons::new(true, false, false));
        assert_eq!(mouse.take(), None);
        assert_eq!(replies(&mut mouse, &[0xf4]), [0xfa, 0x29, 255, 0xfe, 0x09, 45, 0], "the rest follows");
    }

    #[test]
    fn the_wheel_turns_only_for_a_wheel_mouse() {
        let mut mouse = Mouse::new();
        replies(&mut mouse, &[0xf4]);
        mouse.motion(0, 0, 100, Buttons::default());
        assert_eq!(replies(&mut mouse, &[0xe6]), [0xfa, 0x08, 0, 0]);
        replies(&mut mouse, &[0xf3, 200, 0xf3, 100, 0xf3, 80]);
        mouse.motion(0, 0, -9, Buttons::default());
        let packets = replies(&mut mouse, &[0xe6]);
        assert_eq!(packets, [0xfa, 0x08, 0, 0, 0xf9, 0x08, 0, 0, 0xfe]);
    }

    proptest! {
        #[test]
        fn all_movement_arrives(moves in proptest::collection::vec((-500i32..500, -500i32..500), 0..20)) {
            let mut mouse = Mouse::new();
            replies(&mut mouse, &[0xf4]);
            let (mut sum, mut seen) = ((0, 0), (0, 0));
            for (x, y) in moves {
                mouse.motion(x, y, 0, Buttons::default());
                sum = (sum.0 + x, sum.1 + y);
            }
            while let Some(first) = mouse.take() {
                let mut axis = |sign| i32::from(mouse.take().unwrap()) - if first & sign != 0 { 256 } else { 0 };
                seen = (seen.0 + axis(0x10), seen.1 + axis(0x20));
            }
            prop_assert_eq!(sum, seen);
        }

        #[test]
        fn every_byte_is_answered(bytes: Vec<u8>) {
            let mut mouse = Mouse::new();
            for byte in bytes {
                prop_assert!(!replies(&mut mouse, &[byte]).is_empty());
            }
        }
    }
}
