//! Lines of text for the host's log.

/// The host's name of a sink (`host_dev` in the configuration).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostSink(pub u32);

/// Carries guest text to the host's log.
pub trait LogBus {
    /// `line` is printable ASCII without a line end.
    fn log(&mut self, sink: HostSink, line: &str);
}
