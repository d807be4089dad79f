//! Instructions as bytes against a device that answers a fixed value and records what it sees.

mod data;
mod integer;
mod intercepted;
mod modes;
mod moves;
mod remembered;
mod robust;
mod strings;
mod tasks;

use vm_memory::{Bytes, GuestMemoryMmap};

use super::*;
use crate::state::{Cr0, Cr4, Efer, Gpr, Segment, SegmentAttributes, SegmentRegister};
use crate::testing::{self, CODE, Memory};

/// The device that answers.
const DEVICE: u64 = 0xfec0_0040;
const DEVICE_FAULT: NestedFault = NestedFault { address: GuestAddress(DEVICE), write: true };
const SCRATCH: u64 = 0x9000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Read(u64, Width),
    Write(u64, Width, u64),
    PortRead(u16, Width),
    PortWrite(u16, Width, u64),
}

#[derive(Default)]
struct Device {
    answer: u64,
    seen: Vec<Seen>,
}

impl Bus for Device {
    fn read(&mut self, address: GuestAddress, width: Width) -> u64 {
        self.seen.push(Seen::Read(address.0, width));
        self.answer
    }
    fn write(&mut self, address: GuestAddress, width: Width, value: u64) {
        self.seen.push(Seen::Write(address.0, width, value));
    }
    fn port_read(&mut self, port: u16, width: Width) -> u64 {
        self.seen.push(Seen::PortRead(port, width));
        self.answer
    }
    fn port_write(&mut self, port: u16, width: Width, value: u64) {
        self.seen.push(Seen::PortWrite(port, width, value));
    }
}

fn memory() -> Memory {
    testing::memory(0x10_0000)
}

/// RBX addresses the device.
fn long_mode() -> VcpuState {
    let mut state = VcpuState { xmm: Some([0; 16]), ..testing::long_mode() };
    state.set_gpr(Gpr::Rbx, DEVICE);
    state
}

fn real_mode() -> VcpuState {
    let segment = |base: u64| Segment {
        selector: (base >> 4) as u16,
        attributes: SegmentAttributes::default(),
        limit: 0xffff,
        base,
    };
    let mut state = VcpuState { rip: CODE, ..VcpuState::default() };
    state.segments = [segment(0); 6];
    state.segments[SegmentRegister::Es as usize] = segment(0xb_8000);
    state
}

/// One instruction run to its end.
struct Run {
    state: VcpuState,
    memory: Memory,
    device: Device,
    result: Result<Outcome, EmulationError>,
}

fn run_on(memory: Memory, mut state: VcpuState, code: &[u8], answer: u64, fault: bool) -> Run {
    memory.write_slice(code, GuestAddress(state.rip)).unwrap();
    let mut device = Device { answer, ..Device::default() };
    let fault = fault.then_some(DEVICE_FAULT);
    let result = Emulator::new(&memory).emulate(&mut state, &mut device, fault, &[]);
    Run { state, memory, device, result }
}

/// Runs `code` in 64-bit mode with and without the help of the exit's address: same effect.
fn run(state: &VcpuState, code: &[u8], answer: u64) -> Run {
    let walked = run_on(memory(), state.clone(), code, answer, false);
    let reported = run_on(memory(), state.clone(), code, answer, true);
    assert_eq!(walked.state, reported.state);
    assert_eq!(walked.device.seen, reported.device.seen);
    reported
}

#[track_caller]
fn retired(run: &Run, length: u64) {
    assert_eq!(run.result.as_ref().unwrap(), &Outcome::Retired { single_step: false });
    assert_eq!(run.state.rip, CODE + length);
}

const A: u64 = 0x8877_6655_4433_22f1;
