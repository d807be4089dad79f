//! Lines of text out of a stream of bytes.

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
