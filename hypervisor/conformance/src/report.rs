//! Results as lines on the serial line that the hypervisor logs to: `ok N - name` or `not ok N - name: got, expected`; where the
//! machine is known not to follow its manual, `not ok N - name # TODO why`.

use crate::rom;
use crate::sys::port;
use core::fmt::{self, Debug, Write};
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};

/// 16550 line status register, and its bit "transmitter empty".
const LINE_STATUS: u16 = 5;
const THRE: u8 = 1 << 5;

/// Start of the ROM that says which checks this machine is known to fail.
const DEVIATIONS: &str = "deviations:";
/// Most lines of it: a further one never counts as seen.
const MOST_DEVIATIONS: usize = 32;

static PORT: AtomicU16 = AtomicU16::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
/// Which deviations have been seen, by their lines.
static SEEN: [AtomicBool; MOST_DEVIATIONS] = [const { AtomicBool::new(false) }; MOST_DEVIATIONS];

/// Base port of the serial line; the program has access to it.
pub fn open(base: u16) {
    PORT.store(base, Relaxed);
}

struct Line;

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let base = PORT.load(Relaxed);
        for byte in text.bytes() {
            while port::input(base + LINE_STATUS) & THRE == 0 {}
            port::output(base, byte);
        }
        Ok(())
    }
}

/// Writes a line. Only the first thread does.
pub fn line(text: fmt::Arguments<'_>) {
    if PORT.load(Relaxed) != 0 {
        // Writing to a Line cannot fail.
        let _written = Line.write_fmt(format_args!("{text}\n"));
    }
}

/// Result of one check.
pub fn check<T: PartialEq + Debug>(name: &str, got: T, expected: T) {
    let number = COUNT.fetch_add(1, Relaxed) + 1;
    if got == expected {
        line(format_args!("ok {number} - {name}"));
    } else if !explained(name, number) {
        FAILED.fetch_add(1, Relaxed);
        line(format_args!("not ok {number} - {name}: got {got:x?}, expected {expected:x?}"));
    }
}

/// A line about a check that this machine is known to fail.
struct Deviation<'a> {
    index: usize,
    check: &'a str,
    why: &'a str,
}

fn deviations(text: &str) -> impl Iterator<Item = Deviation<'_>> {
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(|(index, line)| {
        let (check, why) = line.split_once(" = ").unwrap_or((line, ""));
        Deviation { index, check: check.trim(), why }
    })
}

/// Calls `then` with the deviation if this machine is known to fail the check.
fn if_known(name: &str, then: impl FnOnce(Deviation<'_>)) -> bool {
    let mut text = rom::BUFFER;
    // That it cannot be read is said in the end.
    let known = rom::read(DEVIATIONS, &mut text).ok().flatten().unwrap_or_default();
    deviations(known).find(|known| known.check == name).map(then).is_some()
}

/// Whether this machine is known to fail the check, for which one need not wait long.
pub fn is_known_to_fail(name: &str) -> bool {
    if_known(name, |_| {})
}

/// Whether this machine is known to fail the check; then that is said.
fn explained(name: &str, number: u64) -> bool {
    if_known(name, |known| {
        if let Some(seen) = SEEN.get(known.index) {
            seen.store(true, Relaxed);
        }
        line(format_args!("not ok {number} - {name} # TODO {}", known.why));
    })
}

/// A deviation that no check has shown: there is no such check any more, or the machine does not fail it.
fn find_unseen() {
    let mut text = rom::BUFFER;
    match rom::read(DEVIATIONS, &mut text) {
        Err(why) => mistake(format_args!("`{DEVIATIONS}` {why}")),
        Ok(known) => {
            for known in deviations(known.unwrap_or_default()) {
                if SEEN.get(known.index).is_none_or(|seen| !seen.load(Relaxed)) {
                    mistake(format_args!("no check `{}` has failed, as this machine is said to", known.check));
                }
            }
        }
    }
}

/// Whether this machine is known not to survive the check; then that is its result.
pub fn fatal(name: &str) -> bool {
    let number = COUNT.load(Relaxed) + 1;
    let is_fatal = explained(name, number);
    COUNT.fetch_add(is_fatal.into(), Relaxed);
    is_fatal
}

/// The checks that follow belong together.
pub fn section(name: &str) {
    line(format_args!("# {name}"));
}

/// A check of a condition.
pub fn holds(name: &str, condition: bool) {
    check(name, condition, true);
}

/// A check that did not take place.
pub fn skip(name: &str, why: &str) {
    let number = COUNT.fetch_add(1, Relaxed) + 1;
    line(format_args!("ok {number} - {name} # skip {why}"));
}

/// Something is wrong with what was asked for: it is a check that fails.
pub fn mistake(what: fmt::Arguments<'_>) {
    FAILED.fetch_add(1, Relaxed);
    let number = COUNT.fetch_add(1, Relaxed) + 1;
    line(format_args!("not ok {number} - {what}"));
}

/// The plan, and the line that ends a run.
pub fn finish() {
    if COUNT.load(Relaxed) == 0 {
        mistake(format_args!("nothing was checked"));
    }
    find_unseen();
    let failed = FAILED.load(Relaxed);
    line(format_args!("1..{}", COUNT.load(Relaxed)));
    line(format_args!("[core] system exit: {}", u64::from(failed != 0)));
}
