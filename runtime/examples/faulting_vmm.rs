//! A virtual-machine monitor with a bug: it runs a guest that counts, and faults as soon as somebody types at its terminal. For
//! scenarios that show that this hurts nobody else, and that everything comes back. `<config memory="..">` is the guest's memory.
#![cfg_attr(kilonova, no_std, no_main)]
#![deny(unsafe_code)]

extern crate alloc;

use abi::cap::{MemRights, Sel};
use abi::event::guest;
use abi::message::Tag;
use abi::session::parent::Quota;
use abi::session::rpc::Error as CallError;
use abi::session::terminal::Terminal;
use abi::session::vm::{GuestAttachment, Vm, VmError};
use abi::session::wire::Message;
use abi::state::{ArchState, Mtd, Segment, seg};
use runtime::config::{self, number};
use runtime::dataspace::AttachedRam;
use runtime::env::Connection;
use runtime::rom::AttachedRom;
use runtime::sys::portal::Handler;
use runtime::sys::utcb;
use runtime::{Env, Error, log, selector};

runtime::component!(construct);

/// Where the guest's program is, and what it counts.
const CODE: usize = 0x1000;
const COUNTER: usize = 0x500;
/// `inc dword ptr [COUNTER]`, and back to it (APM vol. 3, INC and JMP; 16-bit code).
const PROGRAM: [u8; 7] = [0x66, 0xff, 0x06, 0x00, 0x05, 0xeb, 0xf9];
const GREETING: &[u8] = b"A guest is counting. Its monitor faults at any key.\r\n";
const STACK: u64 = 16 << 10;

/// The bug.
#[allow(unsafe_code, reason = "this program exists to fault")]
fn fault() {
    const NOWHERE: u64 = 0x1234_5678_9000;
    // SAFETY: none is needed: nothing is mapped there, so the write must fault and this component be stopped.
    unsafe { core::arch::asm!("mov byte ptr [{}], 1", in(reg) NOWHERE) };
}

/// What the virtual CPU starts with: real mode (APM vol. 2, 14.1.3), at the program.
const INITIAL: Mtd = Mtd::GPR
    .union(Mtd::RIP)
    .union(Mtd::RFLAGS)
    .union(Mtd::SEG)
    .union(Mtd::GDTR)
    .union(Mtd::IDTR)
    .union(Mtd::CR)
    .union(Mtd::DR)
    .union(Mtd::EFER)
    .union(Mtd::STA)
    .union(Mtd::INJ)
    .union(Mtd::CTRL);

fn real_mode() -> ArchState {
    const CODE_SEGMENT: u16 = 0x9b;
    const DATA_SEGMENT: u16 = 0x93;
    const LDT: u16 = 0x82;
    const TSS: u16 = 0x8b;
    const RESERVED_FLAG: u64 = 1 << 1;
    const EXTENSION_TYPE: u64 = 1 << 4;
    let segment = |attributes| Segment { attributes, limit: 0xffff, ..Segment::default() };
    let mut state = ArchState {
        rip: CODE as u64,
        rflags: RESERVED_FLAG,
        cr0: EXTENSION_TYPE,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        seg: [segment(DATA_SEGMENT); 10],
        ..ArchState::default()
    };
    for (index, attributes) in
        [(seg::CS, CODE_SEGMENT), (seg::LDTR, LDT), (seg::TR, TSS), (seg::GDTR, 0), (seg::IDTR, 0)]
    {
        if let Some(entry) = state.seg.get_mut(index) {
            *entry = segment(attributes);
        }
    }
    state
}

/// Handles the exits of the virtual CPU: the first only, because its program causes no other.
struct ExitHandler;

impl Handler for ExitHandler {
    fn handle(&self, event: u64, _: Message) -> Message {
        let mtd = if event == guest::STARTUP {
            utcb::with_state(|state| *state = real_mode());
            INITIAL
        } else {
            log!("unexpected exit {event:#x}");
            Mtd::KILL
        };
        Message { tag: Tag(mtd.bits().into()), ..Message::default() }
    }
}

/// Makes a call, and pays more whenever the session cannot.
fn with_upgrades<T>(
    session: &Connection<Vm>,
    mut call: impl FnMut() -> Result<T, CallError<VmError>>,
) -> Result<T, Error> {
    loop {
        let more = match call() {
            Err(CallError::Server(VmError::OutOfRam)) => Quota { ram: 16 << 10, caps: 0 },
            Err(CallError::Server(VmError::OutOfCaps)) => Quota { ram: 0, caps: 8 },
            result => return Ok(result?),
        };
        session.upgrade(more)?;
    }
}

/// Makes a virtual machine with one CPU that runs the program.
fn start_guest(env: &'static Env, session: &Connection<Vm>, memory: &AttachedRam) -> Result<(), Error> {
    session.bind(env.pd_cap())?;
    let outside = |_| Error::input("guest memory is too small");
    memory.memory().write(CODE, &PROGRAM).map_err(outside)?;
    let attachment = GuestAttachment {
        guest_address: 0,
        offset: 0,
        size: 0,
        rights: (MemRights::READ | MemRights::WRITE | MemRights::EXEC).bits(),
    };
    with_upgrades(session, || session.attach(memory.cap(), attachment))?;
    let portals = selector::allocate_block(guest::COUNT as usize).ok_or_else(|| Error::input("no room for portals"))?;
    let handler = env.spawner().handler(0, STACK, |_| ExitHandler)?;
    for event in [guest::STARTUP, guest::NESTED_FAULT, guest::INVALID_STATE] {
        handler.create_portal(Sel(portals.0 + event), event, Mtd::empty())?;
    }
    let vcpu = with_upgrades(session, || session.create_vcpu(0, portals.0))?;
    with_upgrades(session, || session.start_vcpu(0))?;
    // Both last as long as the component.
    core::mem::forget((vcpu, handler));
    Ok(())
}

fn construct(env: &'static Env) -> Result<(), Error> {
    let config = AttachedRom::open(env, "config")?.text()?;
    let size = config::read(&config, |config| number(config, "memory"))?;
    let size = size.ok_or_else(|| Error::input("<config> without memory"))?;
    let memory = env.alloc_ram(size)?;
    // Below the component's own threads, which must get their turn to fault.
    let session: Connection<Vm> =
        env.connect(&alloc::format!("priority={}", abi::session::cpu::PRIORITY_LIMIT / 64))?;
    start_guest(env, &session, &memory)?;
    let terminal = env.connect::<Terminal>("")?;
    let buffer = env.attach(&terminal.dataspace()?, MemRights::READ | MemRights::WRITE)?;
    if buffer.memory().write(0, GREETING).is_ok() {
        terminal.write(GREETING.len() as u64)?;
    }
    let input = (*terminal).clone();
    let handler = env.entrypoint().signal_handler(move |_| {
        if input.avail() != Ok(true) {
            return;
        }
        let mut count = [0; 4];
        let counted = memory.memory().read(COUNTER, &mut count).is_ok() && count != [0; 4];
        log!("{}", if counted { "the guest has counted" } else { "THE GUEST HAS NOT RUN" });
        fault();
    })?;
    terminal.read_avail_sigh(handler.cap())?;
    core::mem::forget((terminal, handler, session));
    Ok(())
}
