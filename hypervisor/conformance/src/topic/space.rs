//! Spaces: how many a domain may have, and their destruction.

use crate::kit::context::{Handler, Setup};
use crate::kit::domain::Domain;
use crate::kit::object::{self, figures, fresh, pd, space, try_call, try_destroy};
use crate::report::check;
use crate::sys::hypercall::Message;
use abi::cap::{Sel, root};
use abi::hip::Features;
use abi::hypercall::{CreateSpace, SpaceKind};
use abi::status::Status;
use runtime::sys::physical::information_page;

fn create(dst: Sel, pd: Sel, kind: SpaceKind) -> Result<(), Status> {
    try_call(CreateSpace { dst, pd, kind }.encode())
}

extern "sysv64" fn answer(_: &mut Message) {}

/// Whether the machine can run virtual CPUs.
pub fn has_guests() -> bool {
    let features = Features::from_bits_truncate(information_page().features);
    features.intersects(Features::SVM | Features::VMX)
}

/// The topic.
pub fn run() {
    let child = pd(64);
    let first = fresh();
    check("object space", create(first, child, SpaceKind::Object), Ok(()));
    check("another one", create(fresh(), child, SpaceKind::Object), Err(Status::Busy));
    check("memory space", create(fresh(), child, SpaceKind::Memory), Ok(()));
    check("another one", create(fresh(), child, SpaceKind::Memory), Err(Status::Busy));
    check("port space", create(fresh(), child, SpaceKind::Pio), Ok(()));
    check("another one", create(fresh(), child, SpaceKind::Pio), Ok(()));
    check("selector in use", create(first, child, SpaceKind::Pio), Err(Status::Busy));
    check("selector too high", create(Sel(Sel::COUNT), child, SpaceKind::Pio), Err(Status::BadParameter));
    let guest = if has_guests() { Ok(()) } else { Err(Status::BadFeature) };
    check("guest space", create(fresh(), child, SpaceKind::Guest), guest);
    check("MSR space", create(fresh(), child, SpaceKind::Msr), guest);
    check("device space", create(fresh(), child, SpaceKind::Dma), Err(Status::BadFeature));
    check("an unused space goes", try_destroy(first).is_ok(), true);
    check("and can be made anew", create(fresh(), child, SpaceKind::Object), Ok(()));
    object::destroy(child);
    in_use();
    returns_everything();
}

fn in_use() {
    let domain = Domain::create(200);
    let handler = Handler::inside(Setup::default().inside(domain), answer);
    for space in [domain.obj, domain.mem, domain.pio] {
        check("a space in use stays", try_destroy(space), Err(Status::Busy));
    }
    drop(handler);
    for space in [domain.obj, domain.mem, domain.pio] {
        check("an unused one goes", try_destroy(space), Ok(1));
    }
    domain.destroy();
    for space in [root::OBJ, root::MEM, root::PIO] {
        check("one's own is in use", try_destroy(space), Err(Status::Busy));
    }
}

fn returns_everything() {
    let child = pd(100);
    let kinds = [SpaceKind::Object, SpaceKind::Memory, SpaceKind::Pio, SpaceKind::Guest, SpaceKind::Msr];
    for kind in kinds.into_iter().take(if has_guests() { 5 } else { 3 }) {
        for _ in 0..50 {
            let made = space(child, kind);
            object::destroy(made);
        }
        check("50 spaces return all memory", figures(child), [100, 0]);
    }
    object::destroy(child);
}
