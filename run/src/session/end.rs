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
const PANICS: [&str; 2] = ["[kernel] panic", "[hypervisor] panic"];

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

/// Cuts a byte stream into lines of text.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
}

/// A longer line is cut: it would be a component that never ends its lines.
const LINE_LIMIT: usize = 64 * 1024;

impl LineSplitter {
    /// The lines that are complete now, without their ends.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
            if *byte == b'\n' || self.partial.len() >= LINE_LIMIT {
                let line = std::mem::take(&mut self.partial);
                lines.push(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned());
            }
        }
        lines
    }

    /// The last line, if its end never came.
    pub fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.partial);
        (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agreed_lines_end_a_run() {
        assert_eq!(End::reported_by("[core] system exit: 0"), Some(End::SystemExit(0)));
        assert_eq!(End::reported_by("[core] system exit: -3\r"), Some(End::SystemExit(-3)));
        assert_eq!(End::reported_by("[hypervisor] panic at 'x'"), Some(End::Panic("[hypervisor] panic at 'x'".into())));
        for line in ["[core] system exit: soon", "[init -> x] [core] system exit: 0", "[init] [kernel] panic", ""] {
            assert_eq!(End::reported_by(line), None, "{line}");
        }
    }

    #[test]
    fn lines_are_put_together_from_chunks() {
        let mut splitter = LineSplitter::default();
        assert_eq!(splitter.push(b"on"), Vec::<String>::new());
        assert_eq!(splitter.push(b"e\r\ntwo\nthr"), ["one", "two"]);
        assert_eq!(splitter.rest().as_deref(), Some("thr"));
        assert_eq!(splitter.rest(), None);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut splitter = LineSplitter::default();
        assert_eq!(splitter.push(&[b'x'; LINE_LIMIT + 1]).len(), 1);
    }
}
