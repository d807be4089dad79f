//! Numbers that are no hypercalls, and for every capability that a hypercall names: what is refused.

use crate::kit::context::{Handler, Setup, Thread};
use crate::kit::object::{self, copy, fresh};
use crate::report::{check, holds};
use crate::sys::context::{portal_entry, stack_pointer, thread_entry, utcb_at};
use crate::sys::hypercall::{Message, enter, simple, status};
use abi::cap::{Perms, Sel, root};
use abi::hypercall::{
    Args, AssignInt, COUNT, CpuId, CreateEc, CreatePd, CreatePt, CreateSc, CreateSm, CreateSpace, CtrlEc, CtrlHw,
    CtrlPd, CtrlPt, Delegate, EcBody, HwOp, IntSource, NULL, Number, SmDown, SpaceKind, rdi,
};
use abi::state::Mtd;
use abi::status::Status;

/// A hypercall that names a capability: what it is called, the capability needed, and the registers.
struct Use {
    name: &'static str,
    kind: Kind,
    need: Perms,
    args: fn(Sel) -> Args,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pd,
    Thread,
    Local,
    Sc,
    Pt,
    Sm,
    Space,
    Hw,
}

/// Free selector and free slot that the calls below would use if they succeeded. They must not.
const DST: Sel = Sel(90);
const SLOT: u64 = 255;

fn create_ec(pd: Sel) -> Args {
    let body = EcBody::Thread { utcb: utcb_at(SLOT), sp: stack_pointer(SLOT), ip: thread_entry() };
    CreateEc { dst: DST, pd, cpu: CpuId(0), event_base: Sel(0), body }.encode()
}

fn create_pt(pd: Sel, ec: Sel) -> Args {
    CreatePt { dst: DST, pd, ec, ip: portal_entry(), id: 0, mtd: Mtd::empty() }.encode()
}

fn create_sm(pd: Sel, receiver: Sel) -> Args {
    CreateSm { dst: DST, pd, count: 0, receiver, id: 0 }.encode()
}

fn create_sc(pd: Sel, ec: Sel) -> Args {
    CreateSc { dst: DST, pd, ec, priority: 1, budget_us: 1000 }.encode()
}

fn delegate(from: Sel, to: Sel) -> Args {
    Delegate { from, to, src: DST.0, dst: DST.0, count: 1, rights: Perms::ALL.bits().into() }.encode()
}

fn assign(hw: Sel, sm: Sel) -> Args {
    AssignInt { hw, sm, cpu: CpuId(0), source: IntSource::Msi }.encode()
}

const USES: &[Use] = &[
    Use { name: "call", kind: Kind::Pt, need: Perms::PT_CALL, args: |sel| simple(Number::Call, sel) },
    Use {
        name: "create_pd",
        kind: Kind::Pd,
        need: Perms::PD_CREATE.union(Perms::PD_QUOTA),
        args: |parent| CreatePd { dst: DST, parent, quota: 0 }.encode(),
    },
    Use {
        name: "create_space",
        kind: Kind::Pd,
        need: Perms::PD_CREATE_SPACE,
        args: |pd| CreateSpace { dst: DST, pd, kind: SpaceKind::Pio }.encode(),
    },
    Use { name: "create_ec, domain", kind: Kind::Pd, need: Perms::PD_CREATE, args: create_ec },
    Use { name: "create_sc, domain", kind: Kind::Pd, need: Perms::PD_CREATE_SC, args: |pd| create_sc(pd, root::EC) },
    Use { name: "create_sc, EC", kind: Kind::Thread, need: Perms::EC_BIND_SC, args: |ec| create_sc(root::PD, ec) },
    Use { name: "create_pt, domain", kind: Kind::Pd, need: Perms::PD_CREATE, args: |pd| create_pt(pd, root::EC) },
    Use { name: "create_pt, EC", kind: Kind::Local, need: Perms::EC_BIND_PT, args: |ec| create_pt(root::PD, ec) },
    Use { name: "create_sm, domain", kind: Kind::Pd, need: Perms::PD_CREATE, args: |pd| create_sm(pd, Sel::NONE) },
    Use {
        name: "create_sm, receiver",
        kind: Kind::Sm,
        need: Perms::SM_DOWN,
        args: |receiver| create_sm(root::PD, receiver),
    },
    Use {
        name: "delegate, destination",
        kind: Kind::Space,
        need: Perms::SPACE_TAKE,
        args: |to| delegate(root::OBJ, to),
    },
    Use {
        name: "delegate, source",
        kind: Kind::Space,
        need: Perms::SPACE_GRANT,
        args: |from| delegate(from, root::OBJ),
    },
    Use {
        name: "ctrl_pd transfer, destination",
        kind: Kind::Pd,
        need: Perms::PD_QUOTA,
        args: |to| CtrlPd::Transfer { to, from: root::PD, pages: 0 }.encode(),
    },
    Use {
        name: "ctrl_pd transfer, source",
        kind: Kind::Pd,
        need: Perms::PD_QUOTA,
        args: |from| CtrlPd::Transfer { to: root::PD, from, pages: 0 }.encode(),
    },
    Use { name: "ctrl_pd query", kind: Kind::Pd, need: Perms::PD_QUOTA, args: |pd| CtrlPd::Query { pd }.encode() },
    Use { name: "ctrl_ec recall", kind: Kind::Thread, need: Perms::EC_CTRL, args: |ec| CtrlEc::Recall { ec }.encode() },
    Use { name: "ctrl_sc", kind: Kind::Sc, need: Perms::SC_CTRL, args: |sc| simple(Number::CtrlSc, sc) },
    Use {
        name: "ctrl_pt",
        kind: Kind::Pt,
        need: Perms::PT_CTRL,
        args: |pt| CtrlPt { pt, id: 0, mtd: Mtd::empty() }.encode(),
    },
    Use { name: "sm_up", kind: Kind::Sm, need: Perms::SM_UP, args: |sm| simple(Number::SmUp, sm) },
    Use {
        name: "sm_down",
        kind: Kind::Sm,
        need: Perms::SM_DOWN,
        args: |sm| SmDown { sm, zero: false, deadline: 1 }.encode(),
    },
    Use { name: "assign_int, machine", kind: Kind::Hw, need: Perms::HW_INTERRUPT, args: |hw| assign(hw, root::EC) },
    Use { name: "assign_int, semaphore", kind: Kind::Sm, need: Perms::SM_DOWN, args: |sm| assign(root::HW, sm) },
    Use {
        name: "ctrl_hw",
        kind: Kind::Hw,
        need: Perms::HW_POWER,
        args: |hw| CtrlHw { hw, op: HwOp::Reset, sleep_type: 0 }.encode(),
    },
];

extern "sysv64" fn idle(_: u64) {}
extern "sysv64" fn answer(_: &mut Message) {}

/// One live object of each kind.
struct Objects {
    pd: Sel,
    thread: Thread,
    local: Handler,
    /// Of `busy`, a thread that has ended.
    busy: Thread,
    pt: Sel,
    sm: Sel,
    space: Sel,
}

impl Objects {
    fn create() -> Self {
        let pd = object::pd(64);
        let local = Handler::create(0, answer);
        let busy = Thread::start(Setup::default(), idle, 0);
        holds("a thread runs", busy.join());
        Self {
            pd,
            thread: Thread::prepare(Setup::default(), idle, 0),
            pt: local.portal(0),
            local,
            busy,
            sm: object::semaphore(0),
            space: object::space(pd, SpaceKind::Object),
        }
    }

    fn of(&self, kind: Kind) -> Sel {
        match kind {
            Kind::Pd => self.pd,
            Kind::Thread => self.thread.ec,
            Kind::Local => self.local.ec,
            Kind::Sc => self.busy.sc,
            Kind::Pt => self.pt,
            Kind::Sm => self.sm,
            Kind::Space => self.space,
            Kind::Hw => root::HW,
        }
    }
}

fn refused(args: Args) -> bool {
    status(enter(args).rax) == Status::BadCapability
}

/// A use with a capability that must not do.
fn check_use(objects: &Objects, used: &Use) {
    let good = objects.of(used.kind);
    let null = [Sel(91), Sel(Sel::COUNT - 1), Sel(Sel::COUNT), Sel(u64::from(u32::MAX >> 1))];
    let mut fine = null.into_iter().all(|sel| refused((used.args)(sel)));
    let others = [Kind::Pd, Kind::Thread, Kind::Sc, Kind::Pt, Kind::Sm, Kind::Space, Kind::Hw];
    let threads = [Kind::Thread, Kind::Local];
    fine &= others
        .into_iter()
        .filter(|&kind| kind != used.kind && !(threads.contains(&kind) && threads.contains(&used.kind)))
        .all(|kind| refused((used.args)(objects.of(kind))));
    for bit in used.need.iter() {
        let weak = copy(good, Perms::ALL.difference(bit));
        fine &= refused((used.args)(weak));
        object::remove(weak);
    }
    holds(used.name, fine);
}

/// A use of destroyed objects.
fn check_stale(objects: &Objects) {
    let kinds = [Kind::Pd, Kind::Thread, Kind::Local, Kind::Sc, Kind::Pt, Kind::Sm, Kind::Space];
    for sel in [objects.space, objects.pd, objects.thread.ec, objects.pt, objects.local.ec, objects.busy.sc, objects.sm]
    {
        object::destroy(sel);
    }
    for used in USES.iter().filter(|used| kinds.contains(&used.kind)) {
        let stale = objects.of(used.kind);
        check(used.name, (refused((used.args)(stale)), "destroyed"), (true, "destroyed"));
    }
    let refused_again = kinds.into_iter().all(|kind| refused(simple(Number::Destroy, objects.of(kind))));
    holds("nothing is destroyed twice", refused_again);
}

/// The topic.
pub fn run() {
    let unknown = (COUNT..=NULL).all(|number| {
        let args = Args { rdi: number, ..Args::default() };
        status(enter(args).rax) == Status::BadHypercall
    });
    holds("numbers without hypercall", unknown);
    let plain = enter(simple(Number::Reply, Sel(0)));
    check("reply by a thread", status(plain.rax), Status::BadCapability);
    let before = object::figures(root::PD);
    let objects = Objects::create();
    USES.iter().for_each(|used| check_use(&objects, used));
    for kind in [Kind::Pd, Kind::Thread, Kind::Sc, Kind::Pt, Kind::Sm, Kind::Space] {
        let weak = copy(objects.of(kind), Perms::ALL.difference(Perms::DESTROY));
        holds("destroy without permission", refused(simple(Number::Destroy, weak)));
    }
    let hw = simple(Number::Destroy, root::HW);
    check("the machine cannot be destroyed", status(enter(hw).rax), Status::BadParameter);
    holds("no call above has made anything", refused(simple(Number::Destroy, DST)));
    check_stale(&objects);
    drop(objects);
    check("everything is returned", object::figures(root::PD), before);
    unknown_operations();
}

fn unknown_operations() {
    let operations = [
        (Number::CreateEc, 3..8, root::PD),
        (Number::CtrlPd, 2..8, root::PD),
        (Number::CtrlEc, 2..8, root::EC),
        (Number::CtrlHw, 2..8, root::HW),
    ];
    let mut refused = true;
    for (number, flags, sel) in operations {
        for flag in flags {
            let args = Args { rdi: rdi(number, flag, sel), ..Args::default() };
            refused &= status(enter(args).rax) == Status::BadParameter;
        }
    }
    holds("flags without operation", refused);
    let kinds = (6..=u64::from(u8::MAX)).all(|kind| {
        let mut args = CreateSpace { dst: fresh(), pd: root::PD, kind: SpaceKind::Pio }.encode();
        args.rdx = kind;
        status(enter(args).rax) == Status::BadParameter
    });
    holds("kinds without space", kinds);
}
