//! One counter of the 8254.

const BINARY_MODULUS: u32 = 1 << 16;
const BCD_MODULUS: u32 = 10_000;
const STATUS_OUTPUT: u8 = 1 << 7;
const STATUS_NULL_COUNT: u8 = 1 << 6;

/// Counting mode (82C54 data sheet, "Mode Definitions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    InterruptOnTerminalCount,
    OneShot,
    RateGenerator,
    SquareWave,
    SoftwareStrobe,
    HardwareStrobe,
}

impl Mode {
    /// Decodes the low three bits; modes 2 and 3 ignore the third.
    pub(super) const fn decode(field: u8) -> Self {
        match field & 7 {
            0 => Self::InterruptOnTerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    const fn encode(self) -> u8 {
        match self {
            Self::InterruptOnTerminalCount => 0,
            Self::OneShot => 1,
            Self::RateGenerator => 2,
            Self::SquareWave => 3,
            Self::SoftwareStrobe => 4,
            Self::HardwareStrobe => 5,
        }
    }

    const fn is_periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }

    /// Modes that count only after a rising gate.
    const fn is_triggered(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// Which bytes of the count a port access transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Low,
    High,
    LowThenHigh,
}

impl Access {
    /// Decodes the low two bits; 0 is the counter latch command.
    pub(super) const fn decode(field: u8) -> Option<Self> {
        match field & 3 {
            0 => None,
            1 => Some(Self::Low),
            2 => Some(Self::High),
            _ => Some(Self::LowThenHigh),
        }
    }

    const fn encode(self) -> u8 {
        match self {
            Self::Low => 1,
            Self::High => 2,
            Self::LowThenHigh => 3,
        }
    }
}

/// Progress of the counting element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// A control word came, no count yet.
    Unloaded,
    /// The count is written and waits for the gate.
    Armed,
    /// Loaded at tick `start`, counting since.
    Counting { start: u64 },
    /// The gate stopped counting `elapsed` ticks after the load.
    Stopped { elapsed: u64 },
}

/// A counter.
#[derive(Debug)]
pub(super) struct Channel {
    mode: Mode,
    access: Access,
    bcd: bool,
    gate: bool,
    run: Run,
    /// The count in the counting element: the length of the current run or period.
    count: u32,
    /// The count register: what the next load takes.
    register: u32,
    /// A periodic mode takes a new count at the end of the period, at this tick.
    reload_at: Option<u64>,
    /// The next tick at which the output rises by counting.
    rise: Option<u64>,
    low_written: Option<u8>,
    high_is_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    pub(super) const fn new(gate: bool) -> Self {
        Self {
            mode: Mode::InterruptOnTerminalCount,
            access: Access::LowThenHigh,
            bcd: false,
            gate,
            run: Run::Unloaded,
            count: BINARY_MODULUS,
            register: BINARY_MODULUS,
            reload_at: None,
            rise: None,
            low_written: None,
            high_is_next: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// A control word.
    pub(super) const fn program(&mut self, access: Access, mode: Mode, bcd: bool) {
        *self = Self { access, mode, bcd, ..Self::new(self.gate) };
    }

    /// A write to the counter's port.
    pub(super) fn write(&mut self, tick: u64, value: u8) {
        let count = match (self.access, self.low_written.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::LowThenHigh, Some(low)) => u16::from_le_bytes([low, value]),
            (Access::LowThenHigh, None) => {
                self.low_written = Some(value);
                if self.mode == Mode::InterruptOnTerminalCount {
                    self.run = Run::Unloaded;
                    self.rise = None;
                }
                return;
            }
        };
        // A count written before whose time has come is in the counting element by now.
        self.sync(tick);
        self.register = self.decode(count);
        self.count_written(tick);
    }

    fn count_written(&mut self, tick: u64) {
        match (self.mode.is_periodic(), self.run) {
            (true, Run::Counting { start }) => {
                self.reload_at = Some(self.period_end(start, tick));
            }
            _ if self.mode.is_triggered() => {
                if self.run == Run::Unloaded {
                    self.run = Run::Armed;
                }
            }
            (true, _) if !self.gate => self.run = Run::Armed,
            _ => self.load(tick),
        }
    }

    /// Loads the counting element on the next clock pulse.
    fn load(&mut self, tick: u64) {
        self.count = self.register;
        self.reload_at = None;
        let start = tick.saturating_add(1);
        if self.gate || self.mode.is_triggered() {
            self.run = Run::Counting { start };
            self.rise = self.rise_after_start(start);
        } else {
            self.run = Run::Stopped { elapsed: 0 };
            self.rise = None;
        }
    }

    const fn rise_after_start(&self, start: u64) -> Option<u64> {
        let strobe = matches!(self.mode, Mode::SoftwareStrobe | Mode::HardwareStrobe);
        Some(start.saturating_add(self.count as u64 + strobe as u64))
    }

    /// The first end of a period after `tick`.
    fn period_end(&self, start: u64, tick: u64) -> u64 {
        let count = u64::from(self.count);
        let periods = tick.saturating_sub(start).checked_div(count).unwrap_or(0);
        start.saturating_add(periods.saturating_add(1).saturating_mul(count))
    }

    /// Applies a reload whose time has come.
    fn sync(&mut self, tick: u64) {
        if let Some(at) = self.reload_at
            && at <= tick
        {
            self.reload_at = None;
            self.count = self.register;
            self.run = Run::Counting { start: at };
        }
    }

    /// The tick of the next rise, unless it has been taken.
    pub(super) const fn next_rise(&self) -> Option<u64> {
        self.rise
    }

    /// Whether the output has risen by `tick`; rises missed since the last call count as one.
    pub(super) fn take_rise(&mut self, tick: u64) -> bool {
        if self.rise.is_none_or(|rise| rise > tick) {
            return false;
        }
        self.sync(tick);
        self.rise = match self.run {
            Run::Counting { start } if self.mode.is_periodic() => Some(self.period_end(start, tick)),
            _ => None,
        };
        true
    }

    pub(super) fn set_gate(&mut self, tick: u64, level: bool) {
        self.sync(tick);
        if self.gate == level {
            return;
        }
        self.gate = level;
        if level {
            self.gate_rises(tick);
        } else {
            self.gate_falls(tick);
        }
    }

    fn gate_rises(&mut self, tick: u64) {
        match self.run {
            Run::Unloaded => {}
            Run::Stopped { elapsed } => {
                let start = tick.saturating_sub(elapsed);
                self.run = Run::Counting { start };
                self.rise = self.rise_after_start(start).filter(|rise| *rise > tick);
            }
            Run::Armed | Run::Counting { .. } => self.load(tick),
        }
    }

    fn gate_falls(&mut self, tick: u64) {
        if self.mode.is_triggered() {
            return;
        }
        if let Run::Counting { start } = self.run {
            self.rise = None;
            self.reload_at = None;
            self.run = if self.mode.is_periodic() {
                Run::Armed
            } else {
                let elapsed = tick.saturating_sub(start);
                Run::Stopped { elapsed }
            };
        }
    }

    /// The output pin at `tick`.
    pub(super) fn output(&mut self, tick: u64) -> bool {
        self.sync(tick);
        let count = u64::from(self.count);
        let elapsed = match self.run {
            Run::Unloaded | Run::Armed => return self.mode != Mode::InterruptOnTerminalCount,
            Run::Counting { start } if tick < start => {
                return self.mode != Mode::InterruptOnTerminalCount;
            }
            Run::Counting { start } => tick - start,
            Run::Stopped { elapsed } => elapsed,
        };
        match self.mode {
            Mode::InterruptOnTerminalCount | Mode::OneShot => elapsed >= count,
            Mode::RateGenerator => self.phase(elapsed) != count - 1,
            Mode::SquareWave => self.phase(elapsed) < count.div_ceil(2),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != count,
        }
    }

    fn phase(&self, elapsed: u64) -> u64 {
        elapsed.checked_rem(u64::from(self.count)).unwrap_or(0)
    }

    /// The counting element at `tick`.
    fn value(&mut self, tick: u64) -> u16 {
        self.sync(tick);
        let elapsed = match self.run {
            Run::Unloaded | Run::Armed => 0,
            Run::Counting { start } => tick.saturating_sub(start),
            Run::Stopped { elapsed } => elapsed,
        };
        let count = u64::from(self.count);
        let modulus = u64::from(self.modulus());
        let value = match self.mode {
            Mode::RateGenerator => count - self.phase(elapsed),
            Mode::SquareWave => {
                // Counts down by two, twice per period.
                let half = count.div_ceil(2);
                let phase = self.phase(elapsed);
                let in_half = if phase < half { phase } else { phase - half };
                count.saturating_sub(2 * in_half) & !1
            }
            // Counting goes on past the terminal count.
            _ => count + modulus - elapsed % modulus,
        };
        self.encode((value % modulus) as u32)
    }

    const fn modulus(&self) -> u32 {
        if self.bcd { BCD_MODULUS } else { BINARY_MODULUS }
    }

    /// A count as written; 0 stands for the modulus.
    fn decode(&self, raw: u16) -> u32 {
        let count = if self.bcd {
            let digit = |shift: u32| u32::from(raw >> shift & 0xf);
            digit(12) * 1000 + digit(8) * 100 + digit(4) * 10 + digit(0)
        } else {
            u32::from(raw)
        };
        match count {
            0 => self.modulus(),
            // Digits beyond 9 are undefined.
            count => count.min(self.modulus()),
        }
    }

    fn encode(&self, value: u32) -> u16 {
        if self.bcd {
            let digit = |power: u32| (value / power % 10) as u16;
            digit(1000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
        } else {
            value as u16
        }
    }

    /// Latches the count until it is read; further latch commands before that are ignored.
    pub(super) fn latch_count(&mut self, tick: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.value(tick));
        }
    }

    /// Latches the status until it is read.
    pub(super) fn latch_status(&mut self, tick: u64) {
        if self.latched_status.is_some() {
            return;
        }
        let output = if self.output(tick) { STATUS_OUTPUT } else { 0 };
        let null = match self.run {
            Run::Unloaded | Run::Armed => true,
            Run::Counting { start } => tick < start || self.reload_at.is_some(),
            Run::Stopped { .. } => false,
        };
        let null = if null { STATUS_NULL_COUNT } else { 0 };
        let control = self.access.encode() << 4 | self.mode.encode() << 1 | u8::from(self.bcd);
        self.latched_status = Some(output | null | control);
    }

    /// A read of the counter's port.
    pub(super) fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let value = match self.latched_count {
            Some(count) => count,
            None => self.value(tick),
        };
        let [low, high] = value.to_le_bytes();
        let (byte, complete) = match (self.access, self.high_is_next) {
            (Access::Low, _) => (low, true),
            (Access::High, _) => (high, true),
            (Access::LowThenHigh, false) => (low, false),
            (Access::LowThenHigh, true) => (high, true),
        };
        self.high_is_next = !complete;
        if complete {
            self.latched_count = None;
        }
        byte
    }
}
