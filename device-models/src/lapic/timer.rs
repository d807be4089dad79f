//! The local APIC timer (SDM 11.5.4). Its input clock is the TSC, divided by 1 to 128.

use crate::time::Tsc;

/// Divide configuration register: bits 0, 1 and 3.
const DIVIDE_FIELD: u32 = 0b1011;

/// Timer mode, bits 18:17 of the LVT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
}

/// The timer.
#[derive(Debug)]
pub(super) struct Timer {
    mode: TimerMode,
    divide: u32,
    initial: u32,
    /// When the count reaches zero; in TSC-deadline mode, the deadline.
    expiry: Option<Tsc>,
}

impl Timer {
    pub(super) const fn new() -> Self {
        Self { mode: TimerMode::OneShot, divide: 0, initial: 0, expiry: None }
    }

    /// Log2 of the divisor: the field counts 2, 4, .. 128, 1.
    const fn shift(&self) -> u32 {
        let field = (self.divide & 0b11) | (self.divide & 0b1000) >> 1;
        (field + 1) & 7
    }

    const fn period(&self) -> u64 {
        (self.initial as u64) << self.shift()
    }

    pub(super) fn set_mode(&mut self, mode: TimerMode) {
        let deadline = TimerMode::TscDeadline;
        if (self.mode == deadline) != (mode == deadline) {
            // Changing to or from TSC-deadline mode disarms the timer (SDM 11.5.4.1).
            self.expiry = None;
            self.initial = 0;
        }
        self.mode = mode;
    }

    pub(super) const fn divide(&self) -> u32 {
        self.divide
    }

    /// A new divisor; a running count goes on from its present value.
    pub(super) fn set_divide(&mut self, now: Tsc, value: u32) {
        let current = self.current(now);
        self.divide = value & DIVIDE_FIELD;
        if self.mode != TimerMode::TscDeadline && self.expiry.is_some() {
            self.expiry = Some(now.after(u64::from(current) << self.shift()));
        }
    }

    pub(super) const fn initial(&self) -> u32 {
        self.initial
    }

    /// Starts the count; 0 stops it. Ignored in TSC-deadline mode.
    pub(super) fn set_initial(&mut self, now: Tsc, value: u32) {
        if self.mode == TimerMode::TscDeadline {
            return;
        }
        self.initial = value;
        self.expiry = (value != 0).then(|| now.after(self.period()));
    }

    /// The current count register. Call after [`Timer::take_expiry`].
    pub(super) fn current(&self, now: Tsc) -> u32 {
        if self.mode == TimerMode::TscDeadline {
            return 0;
        }
        let left = self.expiry.map_or(0, |expiry| expiry.since(now));
        // The count shows n until n divided ticks are over, so a begun tick still counts.
        let count = (left + ((1 << self.shift()) - 1)) >> self.shift();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// IA32_TSC_DEADLINE: 0 when disarmed.
    pub(super) const fn tsc_deadline(&self) -> u64 {
        match (self.mode, self.expiry) {
            (TimerMode::TscDeadline, Some(Tsc(deadline))) => deadline,
            _ => 0,
        }
    }

    /// Arms the deadline; 0 disarms. Ignored in the other modes.
    pub(super) fn set_tsc_deadline(&mut self, deadline: u64) {
        if self.mode == TimerMode::TscDeadline {
            self.expiry = (deadline != 0).then_some(Tsc(deadline));
        }
    }

    #[inline]
    pub(super) const fn deadline(&self) -> Option<Tsc> {
        self.expiry
    }

    /// Whether the timer expired by `now`. Re-arms a periodic timer past `now`.
    #[inline]
    pub(super) fn take_expiry(&mut self, now: Tsc) -> bool {
        let Some(expiry) = self.expiry.filter(|expiry| *expiry <= now) else {
            return false;
        };
        self.expiry = if self.mode == TimerMode::Periodic { self.next_expiry(now, expiry) } else { None };
        true
    }

    /// The first end of a period past `now`, where one ended at `expiry`.
    fn next_expiry(&self, now: Tsc, expiry: Tsc) -> Option<Tsc> {
        let (late, period) = (now.since(expiry), self.period());
        let missed = late.checked_div(period)?;
        Some(expiry.after((missed + 1).saturating_mul(period)))
    }
}
