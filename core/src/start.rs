//! From the first instruction to a running init.

use crate::machine::Hardware;
use abi::cap::{Perms, Sel, root};
use abi::event::EventWords;
use abi::hip::{self, Hip};
use abi::hypercall::{CpuId, SmDown};
use abi::journal::Reader;
use abi::message::{CapItem, MAX_CAPS, Received, Tag};
use abi::session::wire::{Buffer, Message};
use abi::state::Mtd;
use abi::utcb::Utcb;
use alloc::boxed::Box;
use core::cell::RefCell;
use kilonova_core::Core;
use kilonova_core::boot::Memory;
use kilonova_core::object::Handle;
use kilonova_core::pager::Verdict;
use kilonova_core::parent::SystemExit;
use runtime::heap::{self, FreshMemory};
use runtime::sync::Mutex;
use runtime::sys::portal::{Handler, LocalEc};
use runtime::sys::stack::Slot;
use runtime::sys::{physical, syscall, utcb};
use runtime::{console, log, semaphore};

/// First selector of core's objects. Below are those of the runtime.
const FIRST_OBJECT: Sel = Sel(4096);
/// Bytes of the handler's stack.
const STACK_SIZE: u64 = 64 << 10;
/// Bytes of core's memory that the owner of one capability of quota can make core use: an object with its entries in
/// the registries, or eight regions.
const HEAP_PER_CAP: u64 = 2 << 10;
/// Alignment of the heap, and its least size.
const HEAP_ALIGN: u64 = abi::LARGE_PAGE_SIZE;

/// After a line of the hypervisor's journal. The line takes about 10 ms on a serial line of 115200 baud.
const JOURNAL_PAUSE_US: u64 = 100_000;
/// The exit of a system that never got as far as init.
const NEVER_STARTED: SystemExit = SystemExit(1);

/// RAM set aside for the heap, until it is asked for.
static RESERVE: Mutex<Option<(u64, u64)>> = Mutex::new(None);

/// Runs on the first thread.
pub fn main(_: u64) -> ! {
    let information = physical::information_page();
    console::open(information.log_port);
    log::set_sink(|line| console::write_line(format_args!("[core] {line}")));
    if information.magic != hip::MAGIC || information.version != abi::VERSION {
        log!("the hypervisor is of another version");
        log!("{NEVER_STARTED}");
        semaphore::sleep_forever()
    }
    if let Err(reason) = start(information) {
        log!("cannot start: {reason}");
        log!("{NEVER_STARTED}");
    }
    follow_journal()
}

/// Prints what the hypervisor tells, on this thread, which has nothing else to do. Whoever makes the hypervisor tell something does
/// not pay for the time, and this thread goes before all others: so there is a pause after each line.
fn follow_journal() -> ! {
    let mut reader = Reader::default();
    loop {
        while let Some((missed, stopped)) = reader.next(physical::journal_word) {
            match missed {
                0 => console::write_line(format_args!("[kernel] {stopped}")),
                _ => console::write_line(format_args!("[kernel] {stopped}; {missed} before it were not logged")),
            }
            semaphore::sleep_us(JOURNAL_PAUSE_US);
        }
        let news = syscall::sm_down(SmDown { sm: root::JOURNAL, zero: true, deadline: SmDown::FOREVER });
        if news.is_err() {
            semaphore::sleep_forever()
        }
    }
}

fn start(information: &'static Hip) -> Result<(), &'static str> {
    let count = usize::try_from(information.range_count).unwrap_or(usize::MAX);
    let ranges = information.ranges.get(..count).ok_or("too many memory ranges")?;
    let mut memory = Memory::new(ranges);
    reserve_heap(&mut memory).ok_or("not enough RAM for core's heap")?;
    let stack = memory.ram.alloc(STACK_SIZE, abi::PAGE_SIZE).ok_or("not enough RAM for core's stack")?;
    let slot = Slot::allocate().ok_or("no stack slot")?;
    physical::stack_memory(&slot, stack.base(), stack.size()).map_err(|_| "cannot map core's stack")?;
    LocalEc::create(CpuId(0), slot, move |ec| Root::new(information, memory, ec)).map_err(|_| "no portal handler")?;
    Ok(())
}

/// Sets RAM aside for everything that the owners of all capability quota can make core remember.
fn reserve_heap(memory: &mut Memory) -> Option<()> {
    let pages = syscall::ctrl_pd(abi::hypercall::CtrlPd::Query { pd: root::PD }).ok()?.rdx;
    let size = (pages * HEAP_PER_CAP).max(HEAP_ALIGN).next_multiple_of(HEAP_ALIGN);
    let reserve = memory.ram.alloc(size, HEAP_ALIGN)?;
    *RESERVE.lock() = Some((reserve.base(), reserve.size()));
    heap::set_source(take_reserve);
    Some(())
}

/// The whole reserve, once.
fn take_reserve(_: usize, least: usize) -> Option<FreshMemory> {
    let (base, available) = RESERVE.lock().take_if(|(_, available)| least as u64 <= *available)?;
    physical::heap_memory(base, available)
}

/// What handles all messages to core.
struct Root {
    core: RefCell<Core<'static, Hardware>>,
}

impl Root {
    /// Makes core and starts init.
    fn new(information: &'static Hip, memory: Memory, handler: LocalEc) -> Self {
        let hardware = Box::leak(Box::new(Hardware::new(handler)));
        let mut core = Core::new(hardware, information, memory, FIRST_OBJECT);
        if let Err(error) = core.start_init() {
            core.log(format_args!("cannot start init: {error}"));
            core.log(format_args!("{NEVER_STARTED}"));
        }
        Self { core: RefCell::new(core) }
    }
}

impl Handler for Root {
    fn handle(&mut self, id: u64, message: Message) -> Message {
        let mut core = self.core.borrow_mut();
        if core.is_events(id) {
            let [reason, info1, info2, rip] = message.words;
            let stop = match core.handle_event(id, &EventWords { reason, info1, info2, rip }) {
                Verdict::Resume => Mtd::empty(),
                Verdict::Stop => Mtd::KILL,
            };
            return Message { tag: Tag(u64::from(stop.bits())), words: [0; 4] };
        }
        let arrived = arrived(message.tag);
        let reply = core.dispatch(id, &OwnUtcb, message);
        // What core keeps it has copied.
        arrived.into_iter().flatten().for_each(syscall::remove);
        reply
    }
}

/// Selectors of the capabilities that came with a message.
fn arrived(tag: Tag) -> [Option<Sel>; MAX_CAPS] {
    let mut arrived = [None; MAX_CAPS];
    if tag.caps() > 0 {
        utcb::with(|utcb| {
            for (slot, item) in arrived.iter_mut().zip(utcb.caps.iter().take(tag.caps())) {
                if let Received::New(sel) = item.received() {
                    *slot = Some(sel);
                }
            }
        });
    }
    arrived
}

/// The handler's UTCB, with capabilities as core names them.
#[derive(Clone, Copy, Debug)]
struct OwnUtcb;

impl Buffer for OwnUtcb {
    type Cap = Handle;
    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R {
        utcb::with(access)
    }
    fn send(&self, cap: &Handle, perms: Perms) -> CapItem {
        cap.item(perms)
    }
    fn receive(&self, index: usize) -> Option<Handle> {
        utcb::with(|utcb| utcb.caps.get(index).copied()).and_then(Handle::received)
    }
}
