//! Exits for which the instruction has to be emulated: accesses to device memory, and string I/O.

use abi::state::{Injection, Mtd};
use device_models::bus::mmio::{Gpa, MmioSize};
use device_models::bus::port::{PortAccess, PortSize};
use device_models::time::Tsc;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::{Boundary, Call, Inside, Kernel, MemoryFault, Step, Trouble, Vcpu, selection, transfer};
use crate::board::Board;
use crate::emulator::{Bus, EmulationError, Exception, NestedFault, Outcome, Unemulated, Width};

/// The board as one virtual CPU sees it at one time.
struct BoardBus<'a> {
    board: &'a mut Board,
    now: Tsc,
    vcpu: usize,
}

fn mmio_size(width: Width) -> MmioSize {
    match width {
        Width::Byte => MmioSize::Byte,
        Width::Word => MmioSize::Word,
        Width::Dword => MmioSize::Dword,
        Width::Qword => MmioSize::Qword,
    }
}

/// String I/O moves at most 32 bits at once.
fn port_access(port: u16, width: Width) -> PortAccess {
    let size = match width {
        Width::Byte => PortSize::Byte,
        Width::Word => PortSize::Word,
        Width::Dword | Width::Qword => PortSize::Dword,
    };
    PortAccess { port, size }
}

impl Bus for BoardBus<'_> {
    fn read(&mut self, address: GuestAddress, width: Width) -> u64 {
        self.board.mmio_read(self.now, self.vcpu, Gpa(address.0), mmio_size(width))
    }
    fn write(&mut self, address: GuestAddress, width: Width, value: u64) {
        self.board.mmio_write(self.now, self.vcpu, Gpa(address.0), mmio_size(width), value);
    }
    fn port_read(&mut self, port: u16, width: Width) -> u64 {
        self.board.port_read(self.now, port_access(port, width)).into()
    }
    fn port_write(&mut self, port: u16, width: Width, value: u64) {
        self.board.port_write(self.now, port_access(port, width), value as u32);
    }
}

/// What the CPU has fetched of the instruction, and how many bytes of it.
#[cold]
fn fetched(kernel: &impl Kernel) -> ([u8; 16], usize) {
    kernel.with_state(|arch| (arch.inst_bytes, arch.inst_bytes_len as usize))
}

impl<K: Kernel, M: GuestMemoryBackend> Vcpu<'_, K, M> {
    /// An access to memory that is not there: device registers, or nothing.
    pub(super) fn nested_fault(
        &mut self,
        call: &Call,
        fault: MemoryFault,
        inside: &mut Inside<'_>,
    ) -> Result<Step, Trouble> {
        let address = fault.address;
        let delivers = self.vm.kernel.with_state(|arch| arch.interrupted.is_valid());
        if delivers {
            // Descriptors or the stack of a handler: no instruction is to blame.
            return Err(self.unable(format_args!("event delivery through {:#x}, outside RAM", address.0)));
        }
        if self.vm.memory.get_slice(address, 1).is_ok() {
            // RAM is mapped as long as the machine exists.
            return Err(self.unable(format_args!("nested fault in RAM at {:#x}", address.0)));
        }
        let hint = NestedFault { address, write: fault.write };
        self.emulate(call, fault.is_final.then_some(hint), inside)
    }

    /// INS or OUTS.
    pub(super) fn port_string(&mut self, call: &Call, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        self.emulate(call, None, inside)
    }

    fn emulate(&mut self, call: &Call, fault: Option<NestedFault>, inside: &mut Inside<'_>) -> Result<Step, Trouble> {
        call.require(selection::EMULATE)?;
        let has_xmm = call.delivered.contains(Mtd::XMM);
        let kernel = &self.vm.kernel;
        let state = &mut self.scratch;
        state.physical_address_bits = self.traits.physical_address_bits;
        kernel.with_state(|arch| {
            transfer::read_into(state, arch);
            // An assignment of the one or the other would copy as many bytes in both cases.
            if has_xmm {
                state.xmm = Some(transfer::read_xmm(arch));
            } else {
                state.xmm = None;
            }
        });
        let mut bus = BoardBus { board: &mut inside.machine.board, now: inside.now, vcpu: self.index };
        let bytes;
        let given: &[u8] = if call.delivered.contains(Mtd::INST_BYTES) {
            bytes = fetched(kernel);
            bytes.0.get(..bytes.1).unwrap_or_default()
        } else {
            &[]
        };
        match self.emulator.emulate(state, &mut bus, fault, given) {
            Ok(Outcome::Retired { .. }) => {
                let changed = kernel.with_state(|arch| transfer::write(arch, state));
                let rflags = state.rflags.bits();
                Ok(self.completed(changed, rflags))
            }
            Ok(Outcome::Again) => Ok(kernel.with_state(|arch| {
                let changed = transfer::write(arch, state);
                Step::new(changed, Boundary::at_exit(arch))
            })),
            Ok(Outcome::Fault(exception)) => Ok(self.fault(exception)),
            Err(error) if error.reason == Unemulated::NoVectorState && !has_xmm => Err(Trouble::NeedState(Mtd::XMM)),
            Err(error) if error.is_of_user() => Ok(self.undefine(&error)),
            Err(error) => Err(error.into()),
        }
    }

    /// User code does what cannot be emulated: #UD for the process, and a line in the log if it happens for the first, second,
    /// fourth, eighth... time, so that no process can fill it.
    #[cold]
    fn undefine(&mut self, error: &EmulationError) -> Step {
        self.undefined += 1;
        if self.undefined.is_power_of_two() {
            let kernel = &self.vm.kernel;
            let state = kernel.with_state(|arch| *arch);
            let (vcpu, times) = (self.index, self.undefined);
            kernel.log(format_args!("vCPU {vcpu}: #UD for user code ({times} so far): {error}"));
            kernel.with_state(|arch| *arch = state);
        }
        self.fault(Exception::INVALID_OPCODE)
    }

    /// The guest gets an exception of the emulated instruction.
    fn fault(&self, exception: Exception) -> Step {
        let Exception { vector, error_code, cr2 } = exception;
        self.vm.kernel.with_state(|arch| {
            // A string instruction may have finished some iterations.
            let mut changed = transfer::write(arch, &self.scratch);
            if let Some(cr2) = cr2 {
                // The other control registers go back as they were delivered.
                arch.cr2 = cr2;
                changed |= Mtd::CR;
            }
            let injection = Injection::exception(vector as u8, error_code);
            Step::new(changed, Boundary::at_exit(arch).with_exception(injection))
        })
    }
}
