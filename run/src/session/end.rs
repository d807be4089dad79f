//! How a run ends, and the log lines that say so.

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The root task said that the system has ended, with this code.
    SystemExit(i32),
    /// The hypervisor or the root task gave up with this line.
    Panic(String),
    /// The emulator ended by itself: the machine was switched off or reset, or it could not start.
    EmulatorEnded {
        /// Whether its exit status was 0.
        success: bool,
        /// What it said.
        message: String,
    },
    /// The observer had enough.
    Stopped,
    /// The time was up.
    Timeout,
    /// This process was told to end.
    Signal(i32),
}

const SYSTEM_EXIT: &str = "[core] system exit: ";
/// How the last words of the hypervisor and of the root task begin.
const PANICS: [&str; 2] = ["[kernel] panic: ", "[core] Error: panicked at "];

impl End {
    /// The end that a log line reports.
    pub fn reported_by(line: &str) -> Option<Self> {
        let line = line.trim();
        if PANICS.iter().any(|panic| line.starts_with(panic)) {
            return Some(Self::Panic(line.to_owned()));
        }
        line.strip_prefix(SYSTEM_EXIT)?.trim().parse().ok().map(Self::SystemExit)
    }

    /// Whether the system itself reported this end.
    pub fn is_reported(&self) -> bool {
        matches!(self, Self::SystemExit(_) | Self::Panic(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agreed_lines_end_a_run() {
        assert_eq!(End::reported_by("[core] system exit: 0"), Some(End::SystemExit(0)));
        assert_eq!(End::reported_by("[core] system exit: -3\r"), Some(End::SystemExit(-3)));
        for line in ["[kernel] panic: cannot start: x", "[core] Error: panicked at core/src/main.rs:1:2:"] {
            assert_eq!(End::reported_by(line), Some(End::Panic(line.into())));
        }
        for line in ["[core] system exit: soon", "[init -> x] [core] system exit: 0", "[init] [kernel] panic: x", ""] {
            assert_eq!(End::reported_by(line), None, "{line}");
        }
    }
}
