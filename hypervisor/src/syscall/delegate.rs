//! Delegation and removal: copying from one space to another, in bounded steps.

use super::{Caller, Outcome};
use crate::kernel;
use crate::mem::ptab::{self, Mapping};
use crate::mem::{Object, PAGE, Phys};
use crate::smp::{self, Operation};
use crate::space::mem::{Host, KERNEL, MemSpace};
use crate::space::{Mappings, guest::GuestSpace, msr::MsrSpace, obj::ObjSpace, pio::PioSpace};
use abi::cap::{MemRights, Perms, Sel};
use abi::hypercall::{Args, Delegate};
use abi::status::Status;

/// Most entries changed by one hypercall.
const STEP: u64 = 512;
/// MSRs are numbered in 32 bits.
const MSR_COUNT: u64 = 1 << 32;

/// What is to be delegated where: the ranges are such that addresses, in bytes too, cannot overflow.
#[inline(always)]
pub fn decode(args: &Args) -> Result<Delegate, Status> {
    let args = Delegate::decode(args);
    let fits = |first: u64| first.checked_add(args.count).is_some_and(|end| end <= u64::MAX / PAGE);
    if fits(args.src) && fits(args.dst) { Ok(args) } else { Err(Status::BadParameter) }
}

/// `delegate` to a space of host memory, if it is one; and whether it has waited for other CPUs.
#[inline(always)]
pub fn to_memory(caller: &Caller, args: &Delegate) -> Option<(Outcome, bool)> {
    let to: &'static MemSpace = caller.obj.lookup(args.to, Perms::SPACE_TAKE).ok()?;
    let source = check(args, abi::USER_TOP / PAGE)
        .and_then(|()| if to.is_physical() { Err(Status::BadCapability) } else { Source::find(caller, args) });
    Some(match source {
        Ok(source) => memory(caller, args, &source, to),
        Err(status) => (Err(status), false),
    })
}

/// `delegate` to a space of any other kind.
pub fn to_other(caller: &Caller, args: &Args) -> Outcome {
    let args = decode(args)?;
    let to = caller.obj.slot(args.to).ok_or(Status::BadCapability)?;
    let take = Perms::SPACE_TAKE;
    if let Some(space) = to.lookup::<GuestSpace>(take) {
        check(&args, GuestSpace::LIMIT / PAGE)?;
        return guest(caller, &args, space);
    }
    if let Some(space) = to.lookup::<PioSpace>(take) {
        check(&args, crate::space::pio::PORTS)?;
        return ports(caller, &args, space);
    }
    if let Some(space) = to.lookup::<MsrSpace>(take) {
        check(&args, MSR_COUNT)?;
        return msrs(caller, &args, space);
    }
    Err(Status::BadCapability)
}

#[inline(always)]
fn check(args: &Delegate, limit: u64) -> Result<(), Status> {
    if args.dst + args.count <= limit { Ok(()) } else { Err(Status::BadParameter) }
}

/// The space that is delegated from; without rights it is a removal, and there is none.
#[inline(always)]
fn source<T: Object>(caller: &Caller, args: &Delegate) -> Result<Option<&'static T>, Status> {
    if args.rights == 0 { Ok(None) } else { caller.obj.lookup(args.from, Perms::SPACE_GRANT).map(Some) }
}

/// How far a step came: nothing done and out of memory is an error, otherwise the caller sees the count.
fn outcome(done: u64, stopped: Option<Status>) -> Outcome {
    match stopped {
        Some(status) if done == 0 => Err(status),
        _ => Ok([done, 0]),
    }
}

/// `delegate` to an object space, if it is one.
#[inline(always)]
pub fn to_objects(caller: &Caller, args: &Delegate) -> Option<Outcome> {
    let to: &'static ObjSpace = caller.obj.lookup(args.to, Perms::SPACE_TAKE).ok()?;
    Some(check(args, Sel::COUNT).and_then(|()| caps(caller, args, to)))
}

#[inline(always)]
fn caps(caller: &Caller, args: &Delegate, to: &'static ObjSpace) -> Outcome {
    let perms = Perms::from_bits_truncate(args.rights as u8);
    let from: Option<&'static ObjSpace> = source(caller, args)?;
    if let (1, Some(from)) = (args.count, from) {
        let cap = from.load(Sel(args.src)).map(|cap| cap.restrict(perms));
        return to.store(Sel(args.dst), cap).map(|()| [1, 0]);
    }
    many(args.src, args.dst, args.count, perms, from, to)
}

#[inline(never)]
fn many(
    src: u64,
    dst: u64,
    count: u64,
    perms: Perms,
    from: Option<&'static ObjSpace>,
    to: &'static ObjSpace,
) -> Outcome {
    let count = count.min(STEP);
    let mut done = 0;
    while done < count {
        let source = from.map(|from| (from, Sel(src + done)));
        match to.replace(Sel(dst + done), source, count - done, perms) {
            Ok(step) => done += step,
            Err(status) => return outcome(done, Some(status)),
        }
    }
    Ok([count, 0])
}

/// Where memory comes from.
enum Source {
    /// Nothing: removal.
    Nothing,
    /// All physical memory that is not the hypervisor's.
    Physical,
    /// What another space has mapped.
    Space(&'static MemSpace),
}

impl Source {
    #[inline(always)]
    fn find(caller: &Caller, args: &Delegate) -> Result<Self, Status> {
        Ok(match source::<MemSpace>(caller, args)? {
            None => Self::Nothing,
            Some(space) if space.is_physical() => Self::Physical,
            Some(space) => Self::Space(space),
        })
    }

    /// What is at byte address `at`: of `len` bytes at most, with at most `rights`; or how many bytes are not mapped there.
    #[inline(always)]
    fn look(&self, at: u64, len: u64, rights: MemRights) -> Result<Result<Mapping, u64>, Status> {
        match self {
            Self::Nothing => Ok(Err(len)),
            Self::Physical if kernel::is_mappable(Phys(at), len) => Ok(Ok(Mapping { phys: Phys(at), len, rights })),
            Self::Physical => Err(Status::BadParameter),
            Self::Space(space) => {
                let found = match space.walk(at) {
                    Ok(found) => found,
                    Err(hole) => return Ok(Err(hole.clamp(PAGE, len))),
                };
                // A page that is the kernel's (a UTCB) is not passed on.
                if found.rights.contains(KERNEL) {
                    return Err(Status::BadParameter);
                }
                // Rights shrink, cacheability is the source's.
                let access = MemRights::READ | MemRights::WRITE | MemRights::EXEC;
                let rights = found.rights & (rights | !access);
                Ok(Ok(Mapping { rights, len: found.len.min(len), ..found }))
            }
        }
    }
}

/// How far a walk through a range came.
struct Progress {
    /// Bytes.
    done: u64,
    /// A present entry was replaced.
    flush: bool,
    /// Why it stopped early.
    stopped: Option<Status>,
}

/// One step at `done` bytes from the beginning of the range: the largest leaf that fits, or a hole.
#[inline(always)]
fn step(args: &Delegate, source: &Source, to: &impl Mappings, done: u64) -> Result<ptab::Done, Status> {
    let rights = MemRights::from_bits_truncate(args.rights);
    let (at, left) = (args.dst * PAGE + done, args.count * PAGE - done);
    let (level, page, len) = match source.look(args.src * PAGE + done, left, rights)? {
        Ok(found) => {
            let level = ptab::leaf_level::<Host>(at, found.phys.0, found.len);
            (level, Some((found.phys, found.rights)), found.len)
        }
        Err(len) => {
            if let Err(hole) = to.walk(at) {
                return Ok(ptab::Done { len: hole.min(len), flush: false });
            }
            (ptab::leaf_level::<Host>(at, 0, len), None, len)
        }
    };
    let result = to.set(at, level, page)?;
    Ok(ptab::Done { len: result.len.min(len), ..result })
}

/// Walks the range in the largest leaves that fit. Most ranges are one.
#[inline(always)]
fn walk(args: &Delegate, source: &Source, to: &impl Mappings) -> Progress {
    let total = args.count * PAGE;
    let nothing = Progress { done: 0, flush: false, stopped: None };
    if total == 0 {
        return nothing;
    }
    match step(args, source, to, 0) {
        Ok(ptab::Done { len, flush }) if len >= total => Progress { done: total, flush, stopped: None },
        Ok(ptab::Done { len, flush }) => rest(*args, source, to, len, flush),
        Err(status) => Progress { stopped: Some(status), ..nothing },
    }
}

/// All but the first step of a walk.
#[inline(never)]
fn rest(args: Delegate, source: &Source, to: &impl Mappings, mut done: u64, mut flush: bool) -> Progress {
    let mut stopped = None;
    for _ in 1..STEP {
        if done >= args.count * PAGE {
            break;
        }
        match step(&args, source, to, done) {
            Ok(result) => {
                done += result.len;
                flush |= result.flush;
            }
            Err(status) => {
                stopped = Some(status);
                break;
            }
        }
    }
    Progress { done, flush, stopped }
}

#[inline(always)]
fn memory(caller: &Caller, args: &Delegate, source: &Source, to: &'static MemSpace) -> (Outcome, bool) {
    let progress = walk(args, source, to);
    if progress.flush {
        smp::flush(caller.cpu, to.root().phys());
    }
    let outcome = outcome(progress.done / PAGE, progress.stopped);
    (outcome, progress.flush)
}

fn guest(caller: &Caller, args: &Delegate, to: &'static GuestSpace) -> Outcome {
    let progress = walk(args, &Source::find(caller, args)?, to);
    if progress.flush {
        // A vCPU that runs elsewhere exits for the operation, and sees the new generation at its next entry.
        to.invalidate();
        smp::everywhere(caller.cpu, Operation::ExitGuests);
    }
    outcome(progress.done / PAGE, progress.stopped)
}

fn ports(caller: &Caller, args: &Delegate, to: &'static PioSpace) -> Outcome {
    let from: Option<&'static PioSpace> = source(caller, args)?;
    if args.src != args.dst {
        return Err(Status::BadParameter);
    }
    let count = args.count.min(STEP);
    for port in args.dst..args.dst + count {
        to.set(port, from.is_some_and(|from| from.allows(port)));
    }
    smp::everywhere(caller.cpu, Operation::Ports);
    Ok([count, 0])
}

fn msrs(caller: &Caller, args: &Delegate, to: &'static MsrSpace) -> Outcome {
    let from: Option<&'static MsrSpace> = source(caller, args)?;
    if args.src != args.dst {
        return Err(Status::BadParameter);
    }
    let rights = MemRights::from_bits_truncate(args.rights);
    let count = args.count.min(STEP);
    for i in 0..count {
        let given = from.map_or(MemRights::empty(), |from| from.rights(args.src + i) & rights);
        if let Err(status) = to.set(args.dst + i, given) {
            return outcome(i, Some(status));
        }
    }
    Ok([count, 0])
}
