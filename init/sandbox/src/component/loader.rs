//! Loading the program of a child and starting its first thread.

use crate::backend::Environment;
use abi::cap::MemRights;
use abi::session::cpu::{Cpu, THREAD_NAME_MAX, ThreadPlace};
use abi::session::dataspace::Dataspace;
use abi::session::initial;
use abi::session::parent::Parent;
use abi::session::pd::Pd;
use abi::session::region_map::{Attachment, RegionMap};
use abi::session::rom::Rom;
use abi::session::wire::{AnyObject, Signal};
use alloc::format;
use alloc::string::String;
use core::fmt::Display;
use core::ops::Range;
use program::{ADDRESSES, Content, HEAD_SIZE, Plan, Segment};
use runtime::capability::Cap;
use runtime::dataspace::Attached;
use runtime::env::Env;
use runtime::rpc::{self, Client};
use runtime::sys::memory::SharedMemory;

/// Bytes copied at a time.
const BLOCK: usize = 4096;

/// An error with what was tried.
fn failed<E: Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Loads and starts.
///
/// # Errors
/// Why not, in words.
pub fn start(
    env: &'static Env,
    name: &str,
    environment: &Environment<'_, Cap<AnyObject>>,
    parent: &Cap<Parent>,
    faults: &Cap<Signal>,
) -> Result<(), String> {
    let pd_cap: Cap<Pd> = environment.pd.clone().cast();
    let pd = rpc::client(&pd_cap);
    let space = rpc::client(&pd.address_space().map_err(failed("PD session"))?);
    space.fault_handler(faults).map_err(failed("fault handler"))?;
    pd.assign_parent(parent).map_err(failed("PD session"))?;
    let binary = rpc::client::<Rom>(&environment.binary.clone().cast());
    let image = binary.dataspace().map_err(failed("binary"))?;
    let entry = load(env, &pd, &space, &image)?;
    let cpu = rpc::client::<Cpu>(&environment.cpu.clone().cast());
    let place = ThreadPlace { cpu: 0, below: 0, utcb: initial::UTCB };
    let thread = cpu.create_thread(&pd_cap, thread_name(name), place).map_err(failed("first thread"))?;
    // The program sets up its own stack, but the kernel insists on an address.
    rpc::client(&thread).start(entry, initial::UTCB).map_err(failed("first thread"))
}

/// As much of a name as a thread's may have.
fn thread_name(name: &str) -> &str {
    let end = (0..=THREAD_NAME_MAX.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name.get(..end.unwrap_or(0)).unwrap_or("")
}

fn load(env: &'static Env, pd: &Client<Pd>, space: &Client<RegionMap>, image: &Cap<Dataspace>) -> Result<u64, String> {
    let attached = env.attach(image, MemRights::READ).map_err(failed("binary"))?;
    let source = attached.memory();
    let head = attached.copy(0, HEAD_SIZE.min(source.size())).unwrap_or_default();
    let plan = Plan::parse(&head, source.size() as u64, ADDRESSES).map_err(failed("binary"))?;
    for segment in &plan.segments {
        load_segment(env, pd, space, image, &attached, segment)?;
    }
    Ok(plan.entry)
}

fn load_segment(
    env: &'static Env,
    pd: &Client<Pd>,
    space: &Client<RegionMap>,
    image: &Cap<Dataspace>,
    source: &Attached,
    segment: &Segment,
) -> Result<(), String> {
    let at = Attachment { size: segment.size, ..Attachment::at(segment.address, segment.rights()) };
    match &segment.content {
        Content::Shared { offset } => {
            space.attach(image, Attachment { offset: *offset, ..at }).map_err(failed("segment"))?;
        }
        Content::Private { file, at: lead } => {
            let ram = pd.alloc_ram(segment.size).map_err(failed("RAM for a segment"))?;
            let target = env.attach(&ram, MemRights::READ | MemRights::WRITE).map_err(failed("segment"))?;
            copy(source.memory(), file.clone(), target.memory(), *lead).ok_or("binary: segment outside the file")?;
            space.attach(&ram, at).map_err(failed("segment"))?;
        }
    }
    Ok(())
}

/// Copies block by block: neither memory can be borrowed.
fn copy(source: &SharedMemory, file: Range<u64>, target: &SharedMemory, at: u64) -> Option<()> {
    let (mut from, end) = (usize::try_from(file.start).ok()?, usize::try_from(file.end).ok()?);
    let mut to = usize::try_from(at).ok()?;
    let mut block = [0; BLOCK];
    while from < end {
        let part = block.get_mut(..BLOCK.min(end - from))?;
        source.read(from, part).ok()?;
        target.write(to, part).ok()?;
        (from, to) = (from + part.len(), to + part.len());
    }
    Some(())
}
