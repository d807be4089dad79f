//! The smallest user of KVM that can run `bench-guest`: so that KVM's exits are measured by the very guest that measures the
//! VMM's, on the same machine. `bench-kvm BZIMAGE` prints what the guest prints.
//!
//! The local APIC and its timer are in the kernel, as every VMM has them; the other devices are here.
#![deny(unsafe_code)]

mod cpu;
mod devices;
mod image;
#[allow(unsafe_code, reason = "memory that is the guest's, and the system calls that make it so")]
mod memory;

use std::error::Error;
use std::process::ExitCode;

use kvm_bindings::{KVM_CAP_SPLIT_IRQCHIP, kvm_enable_cap};
use kvm_ioctls::{Kvm, VcpuExit};

use devices::Devices;
use memory::GuestMemory;

/// Pins of the I/O APIC that is here.
const IOAPIC_PINS: u64 = 24;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("usage: bench-kvm BZIMAGE")?;
    let kvm = Kvm::new()?;
    let vm = kvm.create_vm()?;
    let mut split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
    split.args[0] = IOAPIC_PINS;
    vm.enable_cap(&split)?;
    let mut memory = GuestMemory::new(&vm)?;
    let entry = image::load(&mut memory, &std::fs::read(file)?)?;
    let mut vcpu = vm.create_vcpu(0)?;
    cpu::prepare(&kvm, &vcpu, &mut memory, entry)?;
    let mut devices = Devices::default();
    while !devices.is_finished() {
        match vcpu.run()? {
            VcpuExit::IoOut(port, data) => devices.port_write(port, data)?,
            VcpuExit::IoIn(port, data) => devices.port_read(port, data),
            VcpuExit::MmioRead(address, data) => devices.mmio_read(address, data),
            VcpuExit::MmioWrite(address, data) => devices.mmio_write(address, data),
            exit => return Err(format!("unexpected exit: {exit:?}").into()),
        }
    }
    Ok(())
}
