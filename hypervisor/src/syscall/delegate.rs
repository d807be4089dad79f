//! Delegation and removal: copying from one space to another, in bounded steps.

use super::{Caller, Outcome};
use crate::kernel;
use crate::mem::ptab::{self, Mapping};
use crate::mem::{PAGE, Phys};
use crate::smp::{self, Operation};
use crate::space::mem::{Host, MemSpace};
use crate::space::{guest::GuestSpace, msr::MsrSpace, obj::ObjSpace, pio::PioSpace};
use abi::cap::{MemRights, Perms, Sel};
use abi::hypercall::{Args, Delegate};
use abi::status::Status;

/// Most entries changed by one hypercall.
const STEP: u64 = 512;
/// MSRs are numbered in 32 bits.
const MSR_COUNT: u64 = 1 << 32;

/// `delegate`.
pub fn delegate(caller: &Caller, args: &Args) -> Outcome {
    let args = Delegate::decode(args);
    let end = args
        .dst
        .checked_add(args.count)
        .ok_or(Status::BadParameter)?;
    // Byte addresses of the source must not overflow either.
    if args
        .src
        .checked_add(args.count)
        .is_none_or(|end| end > u64::MAX / PAGE)
    {
        return Err(Status::BadParameter);
    }
    let to = caller.obj.slot(args.to).ok_or(Status::BadCapability)?;
    let take = Perms::SPACE_TAKE;
    if let Some(space) = to.lookup::<ObjSpace>(take) {
        check(end, Sel::COUNT)?;
        return caps(caller, &args, space);
    }
    if let Some(space) = to.lookup::<MemSpace>(take) {
        check(end, abi::USER_TOP / PAGE)?;
        return if space.is_physical() {
            Err(Status::BadCapability)
        } else {
            memory(caller, &args, space)
        };
    }
    if let Some(space) = to.lookup::<GuestSpace>(take) {
        check(end, GuestSpace::LIMIT / PAGE)?;
        return guest(caller, &args, space);
    }
    if let Some(space) = to.lookup::<PioSpace>(take) {
        check(end, crate::space::pio::PORTS)?;
        return ports(caller, &args, space);
    }
    if let Some(space) = to.lookup::<MsrSpace>(take) {
        check(end, MSR_COUNT)?;
        return msrs(caller, &args, space);
    }
    Err(Status::BadCapability)
}

fn check(end: u64, limit: u64) -> Result<(), Status> {
    if end <= limit {
        Ok(())
    } else {
        Err(Status::BadParameter)
    }
}

/// How far a step came: nothing done and out of memory is an error, otherwise the caller sees the count.
fn outcome(done: u64, stopped: Option<Status>) -> Outcome {
    match stopped {
        Some(status) if done == 0 => Err(status),
        _ => Ok([done, 0]),
    }
}

fn caps(caller: &Caller, args: &Delegate, to: &'static ObjSpace) -> Outcome {
    let perms = Perms::from_bits_truncate(args.rights as u8);
    let from: Option<&'static ObjSpace> = if args.rights == 0 {
        None
    } else {
        Some(caller.obj.lookup(args.from, Perms::SPACE_GRANT)?)
    };
    let count = args.count.min(STEP);
    let mut done = 0;
    while done < count {
        let source = from.map(|from| (from, Sel(args.src + done)));
        match to.replace(Sel(args.dst + done), source, count - done, perms) {
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
    fn find(caller: &Caller, args: &Delegate) -> Result<Self, Status> {
        if args.rights == 0 {
            return Ok(Self::Nothing);
        }
        let space: &'static MemSpace = caller.obj.lookup(args.from, Perms::SPACE_GRANT)?;
        Ok(if space.is_physical() {
            Self::Physical
        } else {
            Self::Space(space)
        })
    }

    /// What is at byte address `at`: of `len` bytes at most, with at most `rights`; or how many bytes are not mapped there.
    fn look(&self, at: u64, len: u64, rights: MemRights) -> Result<Result<Mapping, u64>, Status> {
        match self {
            Self::Nothing => Ok(Err(len)),
            Self::Physical if kernel::is_mappable(Phys(at), len) => Ok(Ok(Mapping {
                phys: Phys(at),
                len,
                rights,
            })),
            Self::Physical => Err(Status::BadParameter),
            Self::Space(space) => {
                let Some(found) = space.walk(at) else {
                    return Ok(Err(ptab::hole::<Host>(space.root(), at).clamp(PAGE, len)));
                };
                // A page that is the kernel's (a UTCB) is not passed on.
                if !kernel::is_mappable(found.phys, PAGE) {
                    return Err(Status::BadParameter);
                }
                // Rights shrink, cacheability is the source's.
                let access = MemRights::READ | MemRights::WRITE | MemRights::EXEC;
                let rights = found.rights & (rights | !access);
                Ok(Ok(Mapping {
                    rights,
                    len: found.len.min(len),
                    ..found
                }))
            }
        }
    }
}

/// Walks the range in the largest leaves that fit. `set` changes one entry, `hole` tells how much is unmapped anyway.
/// Returns the bytes done, whether a flush is needed, and why it stopped early.
fn walk(
    args: &Delegate,
    source: &Source,
    set: impl Fn(u64, u32, Option<(Phys, MemRights)>) -> Result<ptab::Done, Status>,
    hole: impl Fn(u64) -> u64,
) -> (u64, bool, Option<Status>) {
    let rights = MemRights::from_bits_truncate(args.rights);
    let (src, dst, total) = (args.src * PAGE, args.dst * PAGE, args.count * PAGE);
    let (mut done, mut flush) = (0, false);
    for _ in 0..STEP {
        let left = total - done;
        if left == 0 {
            break;
        }
        let step = source.look(src + done, left, rights).and_then(|found| {
            let (level, to, len) = match found {
                Ok(found) => {
                    let level = ptab::leaf_level::<Host>(dst + done, found.phys.0, found.len);
                    (level, Some((found.phys, found.rights)), found.len)
                }
                Err(len) => {
                    let skip = hole(dst + done);
                    if skip > 0 {
                        return Ok(ptab::Done {
                            len: skip.min(len),
                            flush: false,
                        });
                    }
                    (ptab::leaf_level::<Host>(dst + done, 0, len), None, len)
                }
            };
            let result = set(dst + done, level, to)?;
            Ok(ptab::Done {
                len: result.len.min(len),
                ..result
            })
        });
        match step {
            Ok(result) => {
                done += result.len.min(left);
                flush |= result.flush;
            }
            Err(status) => return (done, flush, Some(status)),
        }
    }
    (done, flush, None)
}

fn memory(caller: &Caller, args: &Delegate, to: &'static MemSpace) -> Outcome {
    let source = Source::find(caller, args)?;
    let root = to.root();
    let (done, flush, stopped) = walk(
        args,
        &source,
        |at, level, page| to.set(at, level, page),
        |at| ptab::hole::<Host>(root, at),
    );
    if flush {
        smp::everywhere(caller.cpu, Operation::Flush(root.phys()));
    }
    outcome(done / PAGE, stopped)
}

fn guest(caller: &Caller, args: &Delegate, to: &'static GuestSpace) -> Outcome {
    let source = Source::find(caller, args)?;
    let root = to.root();
    let (done, flush, stopped) = walk(
        args,
        &source,
        |at, level, page| to.set(at, level, page),
        |at| ptab::hole::<Host>(root, at),
    );
    if flush {
        // A vCPU that runs elsewhere exits for the operation, and sees the new generation at its next entry.
        to.invalidate();
        smp::everywhere(caller.cpu, Operation::ExitGuests);
    }
    outcome(done / PAGE, stopped)
}

fn ports(caller: &Caller, args: &Delegate, to: &'static PioSpace) -> Outcome {
    let from: Option<&'static PioSpace> = if args.rights == 0 {
        None
    } else {
        Some(caller.obj.lookup(args.from, Perms::SPACE_GRANT)?)
    };
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
    let from: Option<&'static MsrSpace> = if args.rights == 0 {
        None
    } else {
        Some(caller.obj.lookup(args.from, Perms::SPACE_GRANT)?)
    };
    if args.src != args.dst {
        return Err(Status::BadParameter);
    }
    let rights = MemRights::from_bits_truncate(args.rights);
    let count = args.count.min(STEP);
    for i in 0..count {
        let given = from.map_or(MemRights::empty(), |from| {
            from.rights(args.src + i) & rights
        });
        if let Err(status) = to.set(args.dst + i, given) {
            return outcome(i, Some(status));
        }
    }
    Ok([count, 0])
}
