//! Guest RAM: dataspaces of the component's account, attached here and to the guest.

use std::sync::Arc;

use abi::cap::MemRights;
use abi::session::dataspace::Dataspace;
use abi::session::parent::Quota;
use abi::session::pd::AllocError;
use abi::session::rpc::Error as CallError;
use abi::session::vm::{GuestAttachment, Vm, VmError};
use abi::{LARGE_PAGE_SIZE, PAGE_SIZE};
use device_models::reset::{RESET_PORT, RESET_VALUE};
use runtime::capability::Cap;
use runtime::dataspace::{Attached, Ram};
use runtime::env::Connection;
use runtime::{Env, Error};
use runtime_guest_memory::{GuestRam, Region};
use vmm::memory::{HIGH_MEMORY, MemoryLayout, MemoryRange};

/// Dataspaces below this size are not divided further when physical memory is too fragmented for them.
const SMALLEST_PART: u64 = 64 << 20;
/// What a session gets that has used up what it had.
const UPGRADE: Quota = Quota { ram: 16 * 1024, caps: 8 };
/// How often.
const MAX_UPGRADES: u32 = 64;

/// Bytes of RAM that [`allocate`] takes.
pub fn cost(layout: &MemoryLayout) -> u64 {
    parts(layout).into_iter().filter_map(extent).map(|extent| extent.size()).sum()
}

/// Allocates RAM for `layout` and attaches it to the guest.
pub fn allocate(env: &Env, session: &Connection<Vm>, layout: &MemoryLayout) -> Result<GuestRam, Error> {
    let mut regions = Vec::new();
    for part in parts(layout) {
        regions.extend(allocate_part(env, session, part)?);
    }
    GuestRam::new(regions).map_err(Error::input)
}

/// Adjacent ranges, which a dataspace can be for.
fn parts(layout: &MemoryLayout) -> [&[MemoryRange]; 2] {
    layout.parts().into()
}

/// What of the guest's addresses a dataspace covers that is for these ranges.
fn extent(ranges: &[MemoryRange]) -> Option<MemoryRange> {
    let (first, last) = (ranges.first()?, ranges.last()?);
    Some(MemoryRange { start: first.start & !(LARGE_PAGE_SIZE - 1), end: last.end })
}

/// Allocates one dataspace for adjacent ranges, or, where none of that size is to be had, one for each half. What lies
/// in the gaps between ranges is wasted, but a dataspace that begins at a large page of the guest is mapped with large
/// pages.
fn allocate_part(env: &Env, session: &Connection<Vm>, ranges: &[MemoryRange]) -> Result<Vec<Region>, Error> {
    let Some(extent) = extent(ranges) else {
        return Ok(Vec::new());
    };
    let (base, size) = (extent.start, extent.size());
    let ram = match Ram::allocate(env.pd(), size) {
        Ok(ram) => ram,
        // Only what is contiguous in physical memory can be one dataspace.
        Err(CallError::Server(AllocError::Denied)) if size > SMALLEST_PART => {
            let middle = (base + size / 2) & !(LARGE_PAGE_SIZE - 1);
            let (low, high) = split(ranges, middle);
            let mut regions = allocate_part(env, session, &low)?;
            regions.extend(allocate_part(env, session, &high)?);
            return Ok(regions);
        }
        Err(error) => return Err(Error::input(format!("{size} bytes of guest RAM: {error}"))),
    };
    let attached = env.attach(ram.cap(), MemRights::READ | MemRights::WRITE)?;
    let attached: Arc<Attached> = Arc::new(attached);
    let mut regions = Vec::new();
    for range in ranges {
        let attachment = GuestAttachment {
            guest_address: range.start,
            offset: range.start - base,
            size: range.size(),
            rights: (MemRights::READ | MemRights::WRITE | MemRights::EXEC).bits(),
        };
        with_upgrades(session, || session.attach(ram.cap(), attachment))?;
        let region = Region::new(range.start, &attached, attachment.offset, attachment.size);
        regions.push(region.map_err(Error::input)?);
    }
    if base == 0 && size >= ROM.end {
        attach_rom(session, ram.cap(), &attached)?;
    }
    // It stays as long as the component.
    core::mem::forget(ram);
    Ok(regions)
}

/// What of the ranges lies below `middle`, and what above.
fn split(ranges: &[MemoryRange], middle: u64) -> (Vec<MemoryRange>, Vec<MemoryRange>) {
    let below = |range: &MemoryRange| MemoryRange { end: range.end.min(middle), ..*range };
    let above = |range: &MemoryRange| MemoryRange { start: range.start.max(middle), ..*range };
    let real = |range: &MemoryRange| range.start < range.end;
    (ranges.iter().map(below).filter(real).collect(), ranges.iter().map(above).filter(real).collect())
}

/// Where a PC has ROMs. Operating systems search it for tables, byte by byte.
const ROM: MemoryRange = MemoryRange { start: 0xc_0000, end: HIGH_MEMORY };

/// Where firmware has its entry: whoever wants it to reset the machine jumps there in real mode.
const RESET_VECTOR: usize = 0xf_fff0;
/// `mov dx, 0xcf9; mov al, 6; out dx, al; hlt`: tells the reset control register.
const RESET_CODE: [u8; 7] = {
    let [low, high] = RESET_PORT.to_le_bytes();
    [0xba, low, high, 0xb0, RESET_VALUE, 0xee, 0xf4]
};

/// Attaches the memory behind the ROM area so that reading it needs no exit. It reads as if nothing was there but what resets the
/// machine.
fn attach_rom(session: &Connection<Vm>, ram: &Cap<Dataspace>, attached: &Attached) -> Result<(), Error> {
    const PAGE: usize = PAGE_SIZE as usize;
    let write = |offset: usize, bytes: &[u8]| {
        let written = attached.memory().write(offset, bytes);
        written.map_err(|_| Error::input("ROM area is not in its dataspace"))
    };
    (ROM.start as usize..ROM.end as usize).step_by(PAGE).try_for_each(|offset| write(offset, &[u8::MAX; PAGE]))?;
    write(RESET_VECTOR, &RESET_CODE)?;
    let attachment = GuestAttachment {
        guest_address: ROM.start,
        offset: ROM.start,
        size: ROM.size(),
        rights: (MemRights::READ | MemRights::EXEC).bits(),
    };
    with_upgrades(session, || session.attach(ram, attachment))
}

/// Makes a call, and pays more whenever the session cannot.
pub fn with_upgrades<T>(
    session: &Connection<Vm>,
    mut call: impl FnMut() -> Result<T, CallError<VmError>>,
) -> Result<T, Error> {
    for _ in 0..MAX_UPGRADES {
        match call() {
            Err(CallError::Server(VmError::OutOfRam)) => {
                session.upgrade(Quota { caps: 0, ..UPGRADE })?;
            }
            Err(CallError::Server(VmError::OutOfCaps)) => {
                session.upgrade(Quota { ram: 0, ..UPGRADE })?;
            }
            result => return Ok(result?),
        }
    }
    Ok(call()?)
}
