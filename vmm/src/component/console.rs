//! The host's ends of serial lines: Terminal sessions, or lines of the log.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;

use abi::session::terminal::BUFFER_SIZE;
use abi::session::wire::Signal;
use device_models::bus::log::{HostSink, LogBus};
use device_models::bus::serial::HostSerial;
use device_models::hostsink::LineSink;
use runtime::capability::Cap;
use runtime::entrypoint::SignalHandler;
use runtime::{Env, Error, log, semaphore};
use vmm::config::VmmConfig;
use vmm::machine::MachineNode;

use super::Machine;
use super::terminal::TerminalEnd;

/// Longest line of the log where no `<hostsink>` says.
const LOG_LINE: NonZeroUsize = NonZeroUsize::new(120).unwrap();

/// What is connected to a serial line.
struct Line {
    host: HostSerial,
    terminal: Option<TerminalEnd>,
    sink: Option<LineSink>,
    /// Output on its way from the machine.
    scratch: Vec<u8>,
}

/// All lines.
struct Lines {
    env: &'static Env,
    vm: &'static Machine,
    lines: Vec<Line>,
    ended: bool,
}

/// The console before the machine exists.
pub struct Console {
    env: &'static Env,
    lines: Vec<Line>,
    /// Filled by [`Console::serve`].
    state: Rc<RefCell<Option<Lines>>>,
    handler: SignalHandler,
}

/// The log, for lines of serial output.
struct Log;

impl LogBus for Log {
    fn log(&mut self, _: HostSink, line: &str) {
        log!("{line}");
    }
}

impl Console {
    /// Connects each `<serial>` to the Terminal session labelled like it, and to the `<hostsink>` that listens
    /// to it. A line that has neither goes to the log.
    pub fn open(env: &'static Env, config: &VmmConfig) -> Result<Self, Error> {
        let nodes = config.machine.nodes();
        let serials = nodes.iter().filter_map(|node| match node {
            MachineNode::Serial(serial) => Some(HostSerial(serial.host_serial)),
            _ => None,
        });
        let lines = serials.map(|host| Line::open(env, nodes, host)).collect();
        let state: Rc<RefCell<Option<Lines>>> = Rc::new(RefCell::new(None));
        let shared = Rc::clone(&state);
        let handler = env.entrypoint().signal_handler(move |_| {
            if let Some(lines) = shared.borrow_mut().as_mut() {
                lines.attend();
            }
        })?;
        Ok(Self { env, lines, state, handler })
    }

    /// What to signal when the machine needs the entrypoint.
    pub fn attention(&self) -> Cap<Signal> {
        self.handler.cap().clone()
    }

    /// Serves `vm` from now on.
    pub fn serve(self, vm: &'static Machine) -> Result<(), Error> {
        let Self { env, lines, state, handler } = self;
        let count = lines.len();
        *state.borrow_mut() = Some(Lines { env, vm, lines, ended: false });
        for index in 0..count {
            let shared = Rc::clone(&state);
            let input = env.entrypoint().signal_handler(move |_| {
                if let Some(lines) = shared.borrow_mut().as_mut() {
                    lines.receive(index);
                }
            })?;
            if let Some(lines) = state.borrow().as_ref()
                && let Some(terminal) = lines.lines.get(index).and_then(|line| line.terminal.as_ref())
            {
                terminal.on_input(input.cap())?;
            }
            core::mem::forget(input);
        }
        core::mem::forget(handler);
        Ok(())
    }
}

impl Line {
    fn open(env: &'static Env, nodes: &[MachineNode], host: HostSerial) -> Self {
        let terminal = TerminalEnd::open(env, &format!("{:#x}", host.0));
        let sink = nodes.iter().find_map(|node| match *node {
            MachineNode::Hostsink { host_dev, buffer } if host_dev == host.0 => {
                let buffer = NonZeroUsize::new(buffer as usize).unwrap_or(LOG_LINE);
                Some(LineSink::new(HostSink(host_dev), buffer))
            }
            _ => None,
        });
        let sink = match &terminal {
            None => sink.or_else(|| Some(LineSink::new(HostSink(host.0), LOG_LINE))),
            Some(_) => sink,
        };
        Self { host, terminal, sink, scratch: Vec::with_capacity(BUFFER_SIZE as usize) }
    }

    /// Passes on what the guest has written. False if a part has to wait; what comes after it then stays in the machine,
    /// where it makes the guest wait.
    fn flush(&mut self, vm: &Machine) -> bool {
        if let Some(terminal) = &mut self.terminal
            && !terminal.flush()
        {
            return false;
        }
        vm.take_output(self.host, &mut self.scratch);
        if let Some(sink) = &mut self.sink {
            self.scratch.iter().for_each(|byte| sink.write(*byte, &mut Log));
        }
        match &mut self.terminal {
            Some(terminal) => terminal.write(&self.scratch),
            None => true,
        }
    }

    /// Whether nothing that was passed on is still on its way.
    fn is_sent(&self) -> bool {
        self.terminal.as_ref().is_none_or(TerminalEnd::is_sent)
    }
}

impl Lines {
    /// The machine wants something: output is to be written, there is room for input, or it has ended.
    fn attend(&mut self) {
        let vm = self.vm;
        if let Some(code) = vm.ended() {
            if !self.ended {
                self.ended = true;
                self.finish(code);
            }
            return;
        }
        if !self.flush() {
            vm.attend_later();
        }
        for index in 0..self.lines.len() {
            self.receive(index);
        }
    }

    /// Passes on what the guest has written. False if a part has to wait.
    fn flush(&mut self) -> bool {
        let vm = self.vm;
        let mut complete = true;
        for line in &mut self.lines {
            complete &= line.flush(vm);
        }
        complete
    }

    /// Passes on all that the guest wrote before its end, and sees it off: the system may end with this component. No virtual CPU is
    /// left to have anybody called again, so this waits for terminals itself; one that takes too long loses the rest.
    fn drain(&mut self) {
        const PAUSE_US: u64 = 5_000;
        const PAUSES: u32 = 1_000;
        for _ in 0..PAUSES {
            if self.flush() && self.lines.iter().all(Line::is_sent) {
                return;
            }
            semaphore::sleep_us(PAUSE_US);
        }
        log!("a terminal did not take the guest's last output");
    }

    /// Offers input to the guest until nobody has any more or the guest has enough.
    fn receive(&mut self, index: usize) {
        let vm = self.vm;
        let Some(line) = self.lines.get_mut(index) else {
            return;
        };
        let Some(terminal) = &mut line.terminal else {
            return;
        };
        loop {
            let input = terminal.input();
            if input.is_empty() {
                return;
            }
            let taken = vm.offer_input(line.host, input);
            terminal.consume(taken);
            if taken == 0 {
                return;
            }
        }
    }

    /// The last words.
    fn finish(&mut self, code: i64) {
        self.drain();
        for line in &mut self.lines {
            if let Some(sink) = &mut line.sink {
                sink.flush(&mut Log);
            }
        }
        if let Some(stats) = self.vm.stats() {
            log!("{}", stats.to_string().trim_end());
        }
        self.env.exit(code);
    }
}
