//! Does what no component may: one misdeed by name in `<config deed="..">`. For scenarios that show that it hurts nobody
//! else. A deed that the system survives without stopping this component ends in exit value 0 if it was refused as it should,
//! in 1 otherwise.
#![cfg_attr(kilonova, no_std, no_main)]
#![deny(unsafe_code)]

extern crate alloc;

use abi::cap::{Perms, Sel};
use abi::hypercall::{CreatePd, CreateSm, CtrlPd, Delegate};
use abi::session::affinity::Affinity;
use abi::session::initial;
use abi::session::parent::SessionError;
use abi::session::rom::Rom;
use abi::session::rpc::{Error as CallError, Interface as _};
use abi::session::wire::Message;
use abi::status::Status;
use alloc::string::ToString;
use runtime::config;
use runtime::rom::AttachedRom;
use runtime::sys::syscall;
use runtime::thread::ThreadOptions;
use runtime::{Env, Error, log, semaphore};

runtime::component!(construct);

/// What only unsafe code can do.
#[allow(unsafe_code, reason = "this program exists to do what is forbidden")]
mod forbidden {
    use super::{Sel, initial};
    use abi::hypercall::{Args, CpuId, CreateEc, CreatePt, EcBody};
    use abi::state::Mtd;
    use core::arch::asm;

    /// An address that is mapped in most components, but writable in none: the first page of code.
    const CODE: u64 = 0x40_0000;
    /// The kernel's half.
    const KERNEL: u64 = 0xffff_8000_0000_0000;
    /// Mapped nowhere.
    const NOWHERE: u64 = 0x1234_5678_9000;

    fn write(address: u64) {
        // SAFETY: none is needed: the write must fault and this component be stopped.
        unsafe { asm!("mov byte ptr [{}], 1", in(reg) address) };
    }

    /// First of selectors that name nothing.
    const NO_PORTALS: Sel = Sel(0x1_f000);
    /// Where contexts without handlers have their UTCBs.
    const UTCBS: u64 = 0x5000_0000_0000;

    fn hypercall(args: Args) -> u64 {
        let status;
        // SAFETY: a context that begins at an address where nothing is mapped can do no harm here, nor can its UTCB.
        unsafe {
            asm!("syscall", inlateout("rdi") args.rdi => _, inlateout("rsi") args.rsi => _, inlateout("rdx") args.rdx => _,
                inlateout("r8") args.r8 => _, inlateout("r9") args.r9 => _, inlateout("r10") args.r10 => _,
                lateout("rax") status, clobber_abi("sysv64"), options(nostack));
        }
        status
    }

    /// Makes a context, at `first`, that faults at its first instruction and has no portals for its events, and at the selector behind it
    /// a portal to it. Whether that was permitted.
    pub fn doomed_context(first: Sel) -> bool {
        let (pd, portal) = (initial::PD, Sel(first.0 + 1));
        let body = EcBody::Local { utcb: UTCBS + first.0 * abi::PAGE_SIZE, sp: NOWHERE };
        let ec = CreateEc { dst: first, pd, cpu: CpuId(0), event_base: NO_PORTALS, body };
        let pt = CreatePt { dst: portal, pd, ec: first, ip: NOWHERE, id: 0, mtd: Mtd::empty() };
        hypercall(ec.encode()) == 0 && hypercall(pt.encode()) == 0
    }

    /// Does the deed. False if there is none of this name; returns at all only if the CPU let it pass.
    pub fn commit(deed: &str) -> bool {
        // SAFETY: as above; each of these instructions must fault in user mode.
        unsafe {
            match deed {
                "wild-write" => write(NOWHERE),
                "write-code" => write(CODE),
                "write-kernel" => write(KERNEL),
                "jump-nowhere" => asm!("jmp {}", in(reg) NOWHERE, options(noreturn)),
                "jump-noncanonical" => {
                    asm!("jmp {}", in(reg) 0x8000_0000_0000_0000u64, options(noreturn))
                }
                "hlt" => asm!("hlt"),
                "cli" => asm!("cli"),
                "write-cr3" => asm!("mov cr3, {}", in(reg) 0u64),
                "wrmsr" => asm!("wrmsr", in("ecx") 0xc000_0082u32, in("eax") 0, in("edx") 0),
                "out" => asm!("out dx, al", in("dx") 0x2f8u16, in("al") b'!'),
                "int" => asm!("int 0x80"),
                "lidt" => asm!("lidt [{}]", in(reg) CODE),
                "vmrun" => asm!("vmrun rax", in("rax") 0u64),
                "stack" => asm!("2:", "push rax", "jmp 2b", options(noreturn)),
                _ => return false,
            }
        }
        true
    }
}

/// Selectors probed beyond those that the runtime uses.
const PROBED: core::ops::Range<u64> = 0x8000..0x9000;

/// Calls and destroys selectors that name nothing, or nothing of ours to destroy.
fn forged_selectors() -> bool {
    let refused = |status| matches!(status, Err(Status::BadCapability));
    PROBED
        .map(Sel)
        .chain([Sel(Sel::COUNT), Sel::NONE])
        .all(|sel| refused(syscall::sm_up(sel)) && refused(syscall::destroy(sel)) && refused(syscall::recall(sel)))
}

/// Tries to get more than was given: the own domain's capability permits neither domains nor quota nor its own end.
fn escalate() -> bool {
    let pd = initial::PD;
    let all = u32::from(Perms::ALL.bits());
    let widen = Delegate { from: initial::OBJ, to: initial::OBJ, src: pd.0, dst: PROBED.start, count: 1, rights: all };
    // A copy has at most the original's permissions, whether or not copying is permitted.
    let _ = syscall::delegate(widen);
    [pd, Sel(PROBED.start)].into_iter().all(|pd| {
        syscall::create_pd(CreatePd { dst: Sel(PROBED.end), parent: pd, quota: 1 }).is_err()
            && syscall::ctrl_pd(CtrlPd::Transfer { to: pd, from: pd, pages: 1 }).is_err()
            && syscall::destroy(pd).is_err()
    })
}

/// Makes semaphores until the account is empty, and gives them back.
fn exhaust() -> bool {
    let mut made = 0;
    let status = loop {
        let dst = Sel(PROBED.start + made);
        let create = CreateSm { dst, pd: initial::PD, count: 0, receiver: Sel::NONE, id: 0 };
        match syscall::create_sm(create) {
            Ok(_) => made += 1,
            Err(status) => break status,
        }
    };
    log!("{made} semaphores, then {status:?}");
    let again = semaphore::create(0);
    let all_gone = (0..made).all(|i| syscall::destroy(Sel(PROBED.start + i)).is_ok());
    status == Status::OutOfMemory && again == Err(Status::OutOfMemory) && all_gone && semaphore::create(0).is_ok()
}

/// Contexts stopped.
const STOPPED: u64 = 10;
/// Stack of a thread that does nothing but call.
const STACK: u64 = 4096;

/// Has the hypervisor stop contexts, as fast as it can, of each of which it has something to tell.
fn stop_contexts(env: &'static Env) -> Result<bool, Error> {
    for i in 0..STOPPED {
        let first = Sel(PROBED.start + i * 2);
        if !forbidden::doomed_context(first) {
            return Ok(false);
        }
        let called = semaphore::create(0)?;
        let options = ThreadOptions { name: "caller", cpu: 0, below: 0, stack_size: STACK };
        // It never returns from the call.
        let _caller = env.spawner().spawn(options, move || {
            let _ = semaphore::up(called);
            let _ = syscall::call(Sel(first.0 + 1), Message::default());
        })?;
        semaphore::down(called)?;
    }
    Ok(true)
}

/// Requests sessions at core and at the parent under names that would begin lines of theirs in the log.
fn forge(env: &Env) -> bool {
    const ARGS: &str = "label=\"x\nFORGED\n[core] FORGED\n\", ram_quota=8K, cap_quota=3";
    let open = |service| env.parent().session(env.new_session_id(), service, ARGS, Affinity::default());
    let announced = env.parent().announce("FORGED\nFORGED");
    open(Rom::NAME).is_err() && open("FORGED\nFORGED").is_err() && announced.is_err()
}

/// Opens sessions that the parent serves itself until it cannot pay for more.
fn many_sessions(env: &Env) -> bool {
    let open = |args: &str| env.parent().session(env.new_session_id(), Rom::NAME, args, Affinity::default());
    if open("label=\"config\"") != Err(CallError::Server(SessionError::InsufficientRam)) {
        return false;
    }
    let mut made = 0;
    let error = loop {
        match open("label=\"config\", ram_quota=8K, cap_quota=3") {
            // The parent remembers the session, not this component.
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    log!("{made} sessions, then {error}");
    matches!(error, CallError::Server(SessionError::OutOfRam | SessionError::OutOfCaps))
}

/// Bytes taken at a time, and never given back.
const HOARD: usize = 64 << 10;

fn construct(env: &'static Env) -> Result<(), Error> {
    let config = AttachedRom::open(env, "config")?.text()?;
    let deed = config::read(&config, |config| config.attribute("deed").unwrap_or_default().to_string())?;
    let refused = match deed.as_str() {
        "forged-selectors" => forged_selectors(),
        "escalate" => escalate(),
        "exhaust" => exhaust(),
        "stop-contexts" => stop_contexts(env)?,
        "forge" => forge(env),
        "many-sessions" => many_sessions(env),
        "panic" => {
            let empty: [u8; 0] = [];
            usize::from(empty[deed.len()]) == 0
        }
        "hoard" => loop {
            alloc::vec![0_u8; HOARD].leak();
        },
        "spin" => loop {
            core::hint::spin_loop();
        },
        other => {
            if !forbidden::commit(other) {
                log!("no such deed: {other}");
            }
            false
        }
    };
    log!("{deed}: {}", if refused { "refused" } else { "NOT REFUSED" });
    env.exit(i64::from(!refused));
    Ok(())
}
