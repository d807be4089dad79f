//! What each CPU has of its own. Only that CPU changes its block, but for the words by which others talk to it ([`crate::smp`]), and the
//! vectors, which any CPU assigns ([`crate::interrupt`]).

use crate::ec::Ec;
use crate::frame::{Frame, PUSHED};
use crate::mem::Link;
use crate::mem::Weak;
use crate::mem::object::{self, AnyObject, Object, Word};
use crate::sc::Sc;
use crate::sched::Queue;
use crate::sm::Sm;
use crate::smp::{Arrivals, Missing, Requests, Sleep};
use crate::space::pio::PioSpace;
use crate::timeout::Timeouts;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Release};

/// Most CPUs.
pub const MAX_CPUS: usize = abi::hip::MAX_CPUS;
/// Most objects that a CPU buries at a time.
pub const MAX_DOOMED: usize = 32;
/// Interrupt vectors of a CPU.
pub const VECTORS: usize = 256;

/// Block of a CPU, reached through GS. Part of its layout is known to `arch::layout`.
#[repr(C, align(64))]
pub struct Cpu {
    /// Address of this block.
    pub this: Word,
    /// End of the pushed registers in the frame of the current EC: the stack pointer at hypercall entry.
    pub frame_top: Word,
    /// Top of the kernel stack.
    pub stack: Word,
    /// User stack pointer during hypercall entry.
    pub scratch: Word,
    /// EC whose state is in the CPU; stays when idle.
    pub(crate) current: Link<Ec>,
    /// Page-table root that is loaded.
    pub root: Word,
    /// Index of this CPU.
    pub id: Word,
    /// FS base that is loaded.
    pub fs_base: Word,
    /// Current scheduling context.
    pub sc: Link<Sc>,
    /// 1 while the current SC runs an EC that does not serve its own call chain.
    pub helping: Word,
    /// 1 when a scheduling context of higher priority may be ready.
    pub resched: Word,
    /// TSC when the current SC was last charged.
    pub since: Word,
    /// TSC for which the timer is armed; `u64::MAX` for not at all.
    pub armed: Word,
    /// Port space whose bitmap is in the TSS.
    pub pio: Link<PioSpace>,
    /// Port space of the host EC that runs: in force if it is `pio`, else no port is.
    pub ports: Link<PioSpace>,
    /// Words of the TSS bitmap that are not all ones.
    pub pio_range: [Word; 2],
    /// APIC id.
    pub apic_id: Word,
    /// CPUs that ask this one to perform their operation.
    pub requests: Requests,
    /// The operation that this CPU asks all others to perform: [what](crate::smp::Operation), and how many have yet to.
    pub operation: Word,
    /// See `operation`.
    pub missing: Missing,
    /// Root of the page table whose translations they are to forget.
    pub flushed: Word,
    /// Whether operations need not reach this CPU.
    pub sleep: Sleep,
    /// Dead objects that this CPU is about to bury, and how many.
    doomed: [Word; MAX_DOOMED],
    /// See `doomed`.
    doomed_count: Word,
    /// Scheduling contexts that arrive from other CPUs, linked by `Sc::next`.
    pub inbox: Arrivals,
    /// ECs to wake that semaphore operations of other CPUs released, linked by `Ec::queue_next`.
    pub wakes: Arrivals,
    /// Last ASID given out and the generation.
    pub asid: Word,
    /// See `asid`.
    pub asid_generation: Word,
    /// Physical address of the VMCS that is current; 0 for none.
    pub vmcs: Word,
    /// Physical address of the host's state outside of the control block: for VMSAVE and VMLOAD, or the MSRs that VMX exits load.
    pub host_control: Word,
    /// Ready scheduling contexts.
    pub ready: Queue,
    /// Scheduling contexts whose chains lead nowhere; a stack linked by `Sc::next`.
    pub aside: Link<Sc>,
    /// TSC when these are to try again; `u64::MAX` if there are none.
    pub retry: Word,
    /// Waits that end at a time, and vCPUs that are recalled at one.
    pub timeouts: Timeouts,
    /// Semaphore of each interrupt vector.
    pub vectors: [Weak<Sm>; VECTORS],
    /// GSI of each interrupt vector, plus flags, see [`crate::interrupt`].
    pub vector_source: [Word; VECTORS],
}

/// Blocks of the CPUs that run, by index.
static CPUS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Cpu {
    /// The EC whose state is in the CPU.
    #[inline(always)]
    pub fn current(&self) -> Option<&'static Ec> {
        self.current.get()
    }

    /// Makes `ec` current.
    #[inline(always)]
    pub fn set_current(&self, ec: &'static Ec, frame: Frame) {
        self.current.set(Some(ec));
        self.frame_top.set(frame.addr() + PUSHED as u64 * 8);
    }

    /// Forgets the current EC, if it is `ec`.
    pub fn forget(&self, ec: &'static Ec) {
        if self.current.is(ec) {
            self.current.set(None);
        }
    }

    /// Objects that this CPU is about to bury. Read by all CPUs while they let go of them.
    pub fn doomed(&self) -> impl Iterator<Item = AnyObject> {
        let count = self.doomed_count.get() as usize;
        self.doomed.iter().take(count).filter_map(|word| object::header_at(word.get())?.object())
    }

    /// Whether there is room for another one.
    pub fn may_doom(&self) -> bool {
        (self.doomed_count.get() as usize) < MAX_DOOMED
    }

    /// Adds an object that has just been retired here.
    pub fn doom<T: Object>(&self, object: &'static T) {
        let count = self.doomed_count.get();
        if let Some(word) = self.doomed.get(count as usize) {
            word.set(object.addr());
            self.doomed_count.set(count + 1);
        }
    }

    /// They are buried.
    pub fn forget_doomed(&self) {
        self.doomed_count.set(0);
    }

    /// Index as a number.
    #[inline(always)]
    pub fn index(&self) -> u64 {
        self.id.get()
    }

    /// Sets up a zeroed block. Its APIC id is known when the CPU itself runs.
    pub fn init(&self, id: usize) {
        self.this.set((self as *const Self).addr() as u64);
        self.id.set(id as u64);
        self.armed.set(u64::MAX);
        self.retry.set(u64::MAX);
        self.timeouts.init();
        self.asid_generation.set(1);
    }
}

/// Registers a CPU that has come up. Indices are given in order.
pub fn register(cpu: &'static Cpu) {
    // Ordering: Release pairs with the Acquire in `get` and `count`: who sees the CPU sees its block set up.
    CPUS[cpu.index() as usize].store(cpu.this.get(), Release);
    COUNT.fetch_max(cpu.index() as usize + 1, Release);
}

/// Number of CPUs that run.
pub fn count() -> usize {
    COUNT.load(Acquire)
}

/// Block of CPU `index`.
pub fn get(index: u64) -> Option<&'static Cpu> {
    let addr = CPUS.get(usize::try_from(index).ok()?)?.load(Acquire);
    crate::arch::percpu::at(addr)
}

/// All CPUs that run.
pub fn all() -> impl Iterator<Item = &'static Cpu> {
    (0..count() as u64).filter_map(get)
}
