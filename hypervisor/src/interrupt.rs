//! Device interrupts: each is a vector of one CPU, and ups a semaphore.

use crate::arch::{apic, ioapic};
use crate::cpu::{self, Cpu};
use crate::mem::lock::Lock;
use crate::sm::Sm;
use abi::hypercall::IntSource;
use abi::status::Status;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Vectors for devices: above the exceptions, below the kernel's own.
const DEVICE_VECTORS: core::ops::Range<usize> = 0x20..0xf0;

/// Source of a vector ([`Cpu::vector_source`]): message-signalled, nothing to mask.
const MESSAGE: u64 = 0;
/// A GSI, which is in the low bits.
const ROUTED: u64 = 1 << 34;
/// It is level-triggered.
const LEVEL: u64 = 1 << 32;
/// The level-triggered line is masked until acknowledged.
const MASKED: u64 = 1 << 33;
const GSI: u64 = 0xffff_ffff;

/// Serialises the choice of vectors.
static ASSIGNING: Lock = Lock::new();
/// Where the search for a free vector begins: behind the one given last, because one that has just become free may still be
/// pending in a local APIC.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// What a device must be told to signal a message: address and data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// Address to write to.
    pub address: u64,
    /// Value to write.
    pub data: u64,
}

/// Binds an interrupt source to `sm` at a free vector of `target`.
///
/// # Errors
/// `BadCpu` if devices do not reach that one, `BadParameter` for a GSI that does not exist, `Busy` if `sm` already has an interrupt or no vector is free.
pub fn assign(target: &'static Cpu, sm: &'static Sm, source: IntSource) -> Result<Message, Status> {
    let destination = apic::destination(target.apic_id.get())?;
    let _guard = ASSIGNING.lock();
    if sm.interrupt.get() != 0 {
        return Err(Status::Busy);
    }
    if let IntSource::Gsi { gsi, .. } = source
        && !ioapic::exists(gsi)
    {
        return Err(Status::BadParameter);
    }
    let vector = DEVICE_VECTORS
        .clone()
        .cycle()
        .skip(NEXT.load(Relaxed))
        .take(DEVICE_VECTORS.len())
        // That of a dead semaphore is not free before its source is masked.
        .find(|&v| target.vectors[v].raw() == 0)
        .ok_or(Status::Busy)?;
    NEXT.store(vector + 1 - DEVICE_VECTORS.start, Relaxed);
    target.vector_source[vector].set(match source {
        IntSource::Gsi { gsi, level, .. } => u64::from(gsi) | ROUTED | if level { LEVEL } else { 0 },
        IntSource::Msi => MESSAGE,
    });
    target.vectors[vector].set(Some(sm));
    sm.interrupt.publish(target.index() << 8 | vector as u64);
    if let IntSource::Gsi { gsi, level, low } = source {
        ioapic::route(gsi, vector as u8, destination, level, low);
        return Ok(Message::default());
    }
    let (address, data) = apic::message(destination, vector as u8);
    Ok(Message { address, data })
}

fn locate(sm: &Sm) -> Option<(&'static Cpu, usize)> {
    let bound = sm.interrupt.observe();
    if bound == 0 {
        return None;
    }
    Some((cpu::get(bound >> 8)?, (bound & 0xff) as usize))
}

/// A device interrupt arrived.
pub fn arrived(cpu: &'static Cpu, vector: usize) {
    let source = &cpu.vector_source[vector];
    if source.get() & LEVEL != 0 {
        ioapic::mask((source.get() & GSI) as u32, true);
        // Ordering: Release pairs with the Acquire in `unmask`: the line is masked before it is unmasked.
        source.atomic().fetch_or(MASKED, Release);
    }
    apic::eoi();
    if let Some(sm) = cpu.vectors[vector].get() {
        // A counter at its limit loses nothing: the interrupt is pending already.
        let _ = sm.up(cpu);
    }
}

/// A down on `sm`: unmasks its level-triggered line, if it was masked.
#[inline(always)]
pub fn acknowledge(sm: &Sm) {
    if sm.interrupt.get() != 0 {
        unmask(sm);
    }
}

#[cold]
fn unmask(sm: &Sm) {
    let Some((target, vector)) = locate(sm) else {
        return;
    };
    let source = &target.vector_source[vector];
    // Ordering: Acquire, see `arrived`.
    let before = source.atomic().fetch_and(!MASKED, Acquire);
    if before & MASKED != 0 {
        ioapic::mask((before & GSI) as u32, false);
    }
}

/// The semaphore is dead: its source is masked and its vector free.
pub fn release(sm: &'static Sm) {
    let Some((target, vector)) = locate(sm) else {
        return;
    };
    let _guard = ASSIGNING.lock();
    sm.interrupt.set(0);
    let source = target.vector_source[vector].get();
    if source & ROUTED != 0 {
        ioapic::unroute((source & GSI) as u32, vector as u8, target.apic_id.get());
    }
    target.vectors[vector].set(None);
}
