//! Accounts, RAM, address spaces, threads.

use super::model::*;
use crate::object::{Handle, Key};
use crate::pager::Verdict;
use crate::session::Session;
use crate::{Core, cpu, region_map, rm};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Perms, Sel};
use abi::event::EventWords;
use abi::session::cpu::{Server as _, ThreadPlace};
use abi::session::cpu_thread::Server as _;
use abi::session::initial;
use abi::session::pd::{AllocError, CLEAR_STEP, NotOwned, RefAccountError, Server as _, TransferError};
use abi::session::region_map::{AttachError, Attachment, Server as _};
use abi::session::rm::Server as _;
use abi::session::wire::{Text, Typed};
use alloc::vec::Vec;

#[test]
fn ram_is_zeroed_rounded_and_paid() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let before = pd_call(&mut core, pd).account();
    let dataspace = pd_call(&mut core, pd).alloc_ram_step(5000).unwrap().into_name().own().unwrap();
    let after = pd_call(&mut core, pd).account();
    assert_eq!((after.ram_used - before.ram_used, after.cap_used - before.cap_used), (8192, 1));
    assert_eq!(model.state.borrow().zeroed.last().unwrap().size(), 8192);
    let other = open_pd(&mut core);
    assert_eq!(pd_call(&mut core, other).free_ram(own(dataspace)), Err(NotOwned::NotOwned));
    pd_call(&mut core, pd).free_ram(own(dataspace)).unwrap();
    assert_eq!(pd_call(&mut core, pd).account(), before);
    assert_eq!(pd_call(&mut core, pd).free_ram(own(dataspace)), Err(NotOwned::NotOwned));
}

#[test]
fn much_ram_is_cleared_in_steps() {
    let model = model();
    let mut core = core(&model);
    let pd = open(&mut core, "PD", r#"label="init -> app", ram_quota=9M, cap_quota=60"#).unwrap();
    let before = figures(&core);
    let ask = |core: &mut Core<'_, Model>, size| core.alloc_ram_step(pd.key, size);
    let (large, small) = (2 * CLEAR_STEP + 0x1000, CLEAR_STEP + 0x1000);
    assert_eq!(ask(&mut core, large), Err(AllocError::Unfinished));
    assert_eq!(ask(&mut core, small), Err(AllocError::Unfinished));
    let [begun] = [core.pds[&pd.key].clearing[&large].0];
    assert_eq!(pd_call(&mut core, pd).free_ram(own(begun)), Err(NotOwned::NotOwned));
    assert_eq!(ask(&mut core, large), Err(AllocError::Unfinished));
    let large = ask(&mut core, large).unwrap();
    let memory = core.physical(large).unwrap();
    let zeroed = model.state.borrow().zeroed.clone();
    let in_large: Vec<_> = zeroed.iter().filter(|part| memory.contains(**part)).map(|part| part.size()).collect();
    assert_eq!(in_large, [CLEAR_STEP, CLEAR_STEP, 0x1000]);
    assert!(zeroed.iter().all(|part| part.size() <= CLEAR_STEP));
    let small = ask(&mut core, small).unwrap();
    for dataspace in [large, small] {
        pd_call(&mut core, pd).free_ram(own(dataspace)).unwrap();
    }
    assert_eq!(before, figures(&core));
}

#[test]
fn half_cleared_ram_goes_with_its_owner() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    let pd = open(&mut core, "PD", r#"label="init -> app", ram_quota=9M, cap_quota=60"#).unwrap();
    assert_eq!(core.alloc_ram_step(pd.key, 2 * CLEAR_STEP), Err(AllocError::Unfinished));
    model.fuse.set(Some(0));
    assert_eq!(core.alloc_ram_step(pd.key, 2 * CLEAR_STEP), Err(AllocError::Denied));
    assert!(core.pds[&pd.key].ram.is_empty());
    assert_eq!(core.alloc_ram_step(pd.key, 2 * CLEAR_STEP), Err(AllocError::Unfinished));
    core.close_session(pd);
    assert_eq!(before, figures(&core));
}

#[test]
fn what_cannot_be_paid_has_no_effect() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let before = figures(&core);
    let error = |core: &mut Core<'_, Model>, size| pd_call(core, pd).alloc_ram_step(size).map(drop);
    assert_eq!(error(&mut core, 2 << 20), Err(AllocError::OutOfRam));
    assert_eq!(error(&mut core, 0), Err(AllocError::Denied));
    assert_eq!(error(&mut core, u64::MAX), Err(AllocError::Denied));
    assert_eq!(before, figures(&core));
    let mut count = 0;
    let last = loop {
        match error(&mut core, 4096) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(count > 10);
    assert_eq!(last, AllocError::OutOfCaps);
}

#[test]
fn budgets_move_between_an_account_and_its_reference_only() {
    let model = model();
    let mut core = core(&model);
    let [a, b, c] = [(); 3].map(|()| open_pd(&mut core));
    pd_call(&mut core, b).ref_account(own(a.key)).unwrap();
    pd_call(&mut core, c).ref_account(own(a.key)).unwrap();
    assert_eq!(pd_call(&mut core, b).ref_account(own(c.key)), Err(RefAccountError::AlreadySet));
    assert_eq!(pd_call(&mut core, b).transfer_ram(own(c.key), 1), Err(TransferError::Invalid));
    assert_eq!(pd_call(&mut core, a).transfer_ram(own(b.key), 1), Err(TransferError::Exceeded));
    assert_eq!(
        pd_call(&mut core, a).transfer_caps(Typed::new(Handle::Foreign(Sel(5), Perms::PT_CALL)), 1),
        Err(TransferError::Invalid)
    );
}

#[test]
fn a_parent_is_never_one_of_cores_objects() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let (events, objects) = (core.pds[&pd.key].events, core.pds[&pd.key].objects);
    let given = || model.state.borrow().given.get(&(objects.0, initial::PARENT.0)).copied();
    // A component has its events' portals without permission to call them.
    pd_call(&mut core, pd).assign_parent(own(events));
    assert_eq!(given(), None);
    pd_call(&mut core, pd).assign_parent(Typed::new(Handle::Foreign(Sel(50), Perms::PT_CALL)));
    assert_eq!(given(), Some((50, Perms::PT_CALL.bits().into())));
}

fn attach(core: &mut Core<'_, Model>, map: Key, dataspace: Key, wish: Attachment) -> Result<u64, AttachError> {
    region_map::Call { core, key: map }.attach(own(dataspace), wish)
}

/// A map of an RM session, and the same as a dataspace.
fn create_map(core: &mut Core<'_, Model>, session: Session, size: u64) -> (Key, Key) {
    let map = rm::Call { core, key: session.key }.create(size).unwrap().into_name().own().unwrap();
    (map, core.maps[&map].dataspace.unwrap())
}

#[test]
fn faults_map_what_is_attached_and_nothing_else() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let map = map_of(&core, pd);
    let dataspace = core.alloc_ram_step(pd.key, 0x3000).unwrap();
    attach(&mut core, map, dataspace, Attachment::at(0x100_0000, MemRights::READ)).unwrap();
    assert_eq!(fault(&mut core, pd, 0x100_1234, false), Verdict::Resume);
    assert_eq!(model.state.borrow().pages.len(), 3);
    assert_eq!(fault(&mut core, pd, 0x100_1234, true), Verdict::Stop);
    assert_eq!(fault(&mut core, pd, 0x100_3000, false), Verdict::Stop);
    let log = model.state.borrow().log.clone();
    assert_eq!(
        log,
        [
            "[core] init -> app: page fault at 0x1001234 (write), ip 0x401000: not permitted",
            "[core] init -> app: page fault at 0x1003000 (read), ip 0x401000: nothing there",
        ]
    );
    region_map::Call { core: &mut core, key: map }.detach(0x100_0000).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    assert_eq!(fault(&mut core, pd, 0x100_1234, false), Verdict::Stop);
}

#[test]
fn the_parent_hears_of_a_fatal_fault() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let key = map_of(&core, pd);
    region_map::Call { core: &mut core, key }.fault_handler(Typed::new(Handle::Foreign(Sel(50), Perms::SM_UP)));
    let events = core.pds[&pd.key].events;
    assert_eq!(
        core.handle_event(events.0.0, &EventWords { reason: 6, info1: 0, info2: 0, rip: 0x1234 }),
        Verdict::Stop
    );
    assert_eq!(model.state.borrow().ups.len(), 1);
    assert_eq!(region_map::Call { core: &mut core, key }.fault().unwrap().address, 0x1234);
}

#[test]
fn freed_ram_is_nowhere_mapped() {
    let model = model();
    let mut core = core(&model);
    let [a, b] = [(); 2].map(|()| open_pd(&mut core));
    let dataspace = core.alloc_ram_step(a.key, 0x1000).unwrap();
    for pd in [a, b] {
        let map = map_of(&core, pd);
        let at = attach(&mut core, map, dataspace, Attachment::anywhere(MemRights::READ)).unwrap();
        assert_eq!(fault(&mut core, pd, at, false), Verdict::Resume);
    }
    assert_eq!(model.state.borrow().pages.len(), 2);
    pd_call(&mut core, a).free_ram(own(dataspace)).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    assert_eq!(core.maps[&map_of(&core, b)].regions.len(), 0);
}

#[test]
fn managed_dataspaces_nest_and_unmap() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let session = open(&mut core, "RM", QUOTA).unwrap();
    let [(outer, outer_ds), (inner, inner_ds)] = [(); 2].map(|()| create_map(&mut core, session, 0x10_0000));
    let ram = core.alloc_ram_step(pd.key, 0x4000).unwrap();
    attach(&mut core, inner, ram, Attachment::at(0x8000, MemRights::READ)).unwrap();
    attach(&mut core, outer, inner_ds, Attachment { offset: 0x9000, size: 0x2000, address: 0x1000, rights: 1 })
        .unwrap();
    let map = map_of(&core, pd);
    attach(&mut core, map, outer_ds, Attachment::at(0x100_0000, MemRights::READ | MemRights::WRITE)).unwrap();
    assert_eq!(fault(&mut core, pd, 0x100_1010, false), Verdict::Resume);
    let physical = core.dataspaces[&ram].backing() / PAGE_SIZE;
    let mapped: Vec<_> = model.state.borrow().pages.iter().map(|(&(_, page), &to)| (page, to - physical)).collect();
    assert_eq!(mapped, [(0x1001, 1), (0x1002, 2)]);
    assert_eq!(fault(&mut core, pd, 0x100_3000, false), Verdict::Stop);
    attach(&mut core, inner, inner_ds, Attachment::at(0x2_0000, MemRights::READ)).unwrap_err();
    region_map::Call { core: &mut core, key: inner }.detach(0x8000).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    core.close_session(session);
    assert_eq!(core.maps[&map].regions.len(), 0);
}

/// A map that is attached [`FAN`] times to the next, and so on: in an address space it is `FAN` to the fourth times.
#[test]
fn a_map_in_very_many_places_is_unmapped_in_few_steps() {
    const FAN: u64 = 16;
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let session = open(&mut core, "RM", QUOTA).unwrap();
    let ram = core.alloc_ram_step(pd.key, PAGE_SIZE).unwrap();
    let maps = [0, 1, 2, 3].map(|level| create_map(&mut core, session, PAGE_SIZE * FAN.pow(level)));
    let (innermost, _) = maps[0];
    attach(&mut core, innermost, ram, Attachment::at(0, MemRights::READ)).unwrap();
    let mut places = Vec::new();
    for (level, &(_, dataspace)) in maps.iter().enumerate() {
        let outer = maps.get(level + 1).map_or_else(|| map_of(&core, pd), |&(map, _)| map);
        places = (0..FAN)
            .map(|_| attach(&mut core, outer, dataspace, Attachment::anywhere(MemRights::READ)).unwrap())
            .collect();
    }
    let last = PAGE_SIZE * (FAN.pow(3) - 1);
    for place in &places {
        assert_eq!(fault(&mut core, pd, place + last, false), Verdict::Resume);
    }
    assert_eq!(model.state.borrow().pages.len() as u64, FAN);
    let before = model.state.borrow().removals;
    region_map::Call { core: &mut core, key: innermost }.detach(0).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    let removals = u64::from(model.state.borrow().removals - before);
    assert!(removals <= FAN * FAN.pow(3).div_ceil(1000), "{removals}");
}

#[test]
fn a_map_inside_itself_is_unmapped_everywhere() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let session = open(&mut core, "RM", QUOTA).unwrap();
    let (map, dataspace) = create_map(&mut core, session, 0x10_0000);
    let ram = core.alloc_ram_step(pd.key, PAGE_SIZE).unwrap();
    attach(&mut core, map, ram, Attachment::at(0, MemRights::READ)).unwrap();
    let itself = |at| Attachment { offset: 0, size: 0x8000, address: at, rights: MemRights::READ.bits() };
    attach(&mut core, map, dataspace, itself(0x8000)).unwrap();
    attach(&mut core, map, dataspace, Attachment { offset: 0x8000, ..itself(0x1_0000) }).unwrap();
    let space = map_of(&core, pd);
    attach(&mut core, space, dataspace, Attachment::at(0x100_0000, MemRights::READ)).unwrap();
    for at in [0, 0x8000, 0x1_0000] {
        assert_eq!(fault(&mut core, pd, 0x100_0000 + at, false), Verdict::Resume);
    }
    assert_eq!(model.state.borrow().pages.len(), 3);
    region_map::Call { core: &mut core, key: map }.detach(0).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    core.close_session(session);
}

#[test]
fn a_thread_starts_once_and_dies_with_its_protection_domain() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    let (pd, session) = (open_pd(&mut core), open(&mut core, "CPU", QUOTA).unwrap());
    let place = ThreadPlace { cpu: 0, below: 0, utcb: 0x7000_0000 };
    let mut call = cpu::Call { core: &mut core, key: session.key };
    assert!(call.create_thread(own(pd.key), Text::new(), ThreadPlace { cpu: 4, ..place }).is_err());
    assert!(call.create_thread(own(pd.key), Text::new(), ThreadPlace { utcb: 1, ..place }).is_err());
    let thread = call.create_thread(own(pd.key), Text::new(), place).unwrap().into_name().own().unwrap();
    let unstarted = call.create_thread(own(pd.key), Text::new(), place).unwrap().into_name().own().unwrap();
    let live = model.state.borrow().live.len();
    let mut call = cpu::ThreadCall { core: &mut core, key: thread };
    call.start(0x40_0000, 0).unwrap();
    assert_eq!(model.state.borrow().live.len(), live + 2);
    assert!(call.start(0x40_0000, 0).is_err());
    assert_eq!(call.consumed(), 77);
    core.close_session(pd);
    assert!(cpu::ThreadCall { core: &mut core, key: unstarted }.start(0x40_0000, 0).is_err());
    core.close_session(session);
    assert_eq!(before, figures(&core));
}
