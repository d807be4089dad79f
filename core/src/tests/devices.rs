//! Device resources and virtual machines.

use super::model::*;
use crate::object::Handle;
use crate::pager::Verdict;
use crate::{io_mem, io_port, irq, region_map, vm};
use abi::cap::{MemRights, Perms, Sel, root};
use abi::hip::{Features, VcpuAbsence};
use abi::session::io_mem::Server as _;
use abi::session::io_port::Server as _;
use abi::session::irq::{BindError, Server as _};
use abi::session::parent::SessionError;
use abi::session::pd::Server as _;
use abi::session::region_map::{Attachment, Server as _};
use abi::session::vm::{GuestAttachment, Server as _, VmError};
use abi::session::wire::{InterruptSemaphore, Kind as _, Typed};
use alloc::vec::Vec;
use alloc::{format, vec};

#[test]
fn device_resources_are_exclusive() {
    let model = model();
    let mut core = core(&model);
    let quota = "ram_quota=64K, cap_quota=10";
    for (service, first, conflicts) in [
        (
            "IO_MEM",
            "base=0xfed00000, size=0x2000",
            vec!["base=0xfed01800, size=16", "base=0x500000, size=4096", "size=1"],
        ),
        (
            "IO_PORT",
            "io_port_base=0x2f8, io_port_size=8",
            vec![
                "io_port_base=0x2ff, io_port_size=1",
                "io_port_base=0x3fd, io_port_size=1",
                "io_port_base=0xffff, io_port_size=2",
            ],
        ),
        ("IRQ", "irq_number=4", vec!["irq_number=4", "irq_number=24"]),
    ] {
        open(&mut core, service, &format!("{quota}, {first}")).unwrap();
        for conflict in conflicts {
            let result = open(&mut core, service, &format!("{quota}, {conflict}"));
            assert_eq!(result, Err(SessionError::Denied), "{service} {conflict}");
        }
    }
}

#[test]
fn a_device_of_the_hypervisor_is_told_from_a_lack_of_quota() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let args = format!("ram_quota=64K, cap_quota=10, base={PROTECTED:#x}, size=4096");
    let session = open(&mut core, "IO_MEM", &args).unwrap();
    let dataspace = io_mem::Call { core: &mut core, key: session.key }.dataspace();
    let key = map_of(&core, pd);
    let wish = Attachment::at(0x100_0000, MemRights::READ);
    region_map::Call { core: &mut core, key }.attach(dataspace, wish).unwrap();
    assert_eq!(fault(&mut core, pd, 0x100_0000, false), Verdict::Stop);
    let log = model.state.borrow().log.concat();
    assert!(log.ends_with("page fault at 0x1000000 (read), ip 0x401000: the hypervisor's own"), "{log}");
}

#[test]
fn ports_vanish_with_their_session() {
    let model = model();
    let mut core = core(&model);
    let pd = open_pd(&mut core);
    let session = open(&mut core, "IO_PORT", SERVICES[6].1).unwrap();
    io_port::Call { core: &mut core, key: session.key }.bind(own(pd.key)).unwrap();
    assert_eq!(model.state.borrow().ports.len(), 8);
    core.close_session(session);
    assert!(model.state.borrow().ports.is_empty());
}

#[test]
fn an_interrupt_is_bound_again_and_released() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    let semaphore = |sel| Typed::new(Handle::Foreign(Sel(sel), InterruptSemaphore::PERMS));
    // Where core keeps its copies of a semaphore.
    let kept = |sel: u64| -> Vec<Sel> {
        let state = model.state.borrow();
        let copies = state.given.iter().filter(|&(&(space, _), &(from, _))| (space, from) == (root::OBJ.0, sel));
        copies.map(|(&(_, at), _)| Sel(at)).collect()
    };
    for args in [SERVICES[7].1, r#"ram_quota=64K, cap_quota=10, irq_type="msi""#] {
        let session = open(&mut core, "IRQ", args).unwrap();
        let mut call = irq::Call { core: &mut core, key: session.key };
        let info = call.bind(semaphore(50)).unwrap();
        assert_eq!(info.msi, args.contains("msi"));
        assert_eq!((info.address, info.data), if info.msi { (0xfee0_0000, 0x41) } else { (0, 0) });
        let first = kept(50);
        call.bind(semaphore(51)).unwrap();
        let second = kept(51);
        assert_eq!((first.len(), second.len(), kept(50).len()), (1, 1, 0));
        assert!(model.state.borrow().destroyed.contains(&first[0]), "its vector is free");
        core.close_session(session);
        assert!(model.state.borrow().destroyed.contains(&second[0]), "the driver does not hear of it any more");
        assert_eq!(before, figures(&core));
    }
}

#[test]
fn a_semaphore_that_core_cannot_destroy_is_no_interrupts() {
    let model = model();
    let mut core = core(&model);
    let session = open(&mut core, "IRQ", SERVICES[7].1).unwrap();
    for handle in [Handle::Foreign(Sel(50), Perms::SM_UP | Perms::SM_DOWN), Handle::Own(session.key), Handle::Nothing] {
        let result = irq::Call { core: &mut core, key: session.key }.bind(Typed::new(handle));
        assert_eq!(result, Err(BindError::InvalidSemaphore));
    }
}

#[test]
fn guests_get_memory_and_lose_it() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    let (pd, session) = (open_pd(&mut core), open(&mut core, "VM", QUOTA).unwrap());
    let ram = core.alloc_ram_step(pd.key, 0x4000).unwrap();
    let wish = GuestAttachment { guest_address: 0, offset: 0, size: 0, rights: 3 };
    let mut call = vm::Call { core: &mut core, key: session.key };
    assert_eq!(call.attach(own(ram), wish), Err(VmError::InvalidPd));
    call.bind(own(pd.key)).unwrap();
    assert_eq!(call.bind(own(pd.key)), Err(VmError::InvalidPd));
    call.attach(own(ram), wish).unwrap();
    assert_eq!(call.attach(own(ram), wish), Err(VmError::Conflict));
    assert_eq!(call.attach(own(ram), GuestAttachment { offset: 0x4000, ..wish }), Err(VmError::InvalidDataspace));
    assert_eq!(model.state.borrow().pages.len(), 4);
    assert_eq!(call.detach(0x1000, 0x1000), Err(VmError::BadParameter));
    let vcpu = call.create_vcpu(0, 0x100).unwrap();
    assert!(matches!(vcpu.name(), Handle::Foreign(..)));
    assert_eq!(call.create_vcpu(9, 0x100).map(drop), Err(VmError::NoSuchCpu));
    call.start_vcpu(0).unwrap();
    assert_eq!(call.start_vcpu(0), Err(VmError::BadParameter));
    assert_eq!(call.start_vcpu(1), Err(VmError::BadParameter));
    pd_call(&mut core, pd).free_ram(own(ram)).unwrap();
    assert!(model.state.borrow().pages.is_empty());
    core.close_session(session);
    core.close_session(pd);
    assert_eq!(before, figures(&core));
}

#[test]
fn a_vm_outlives_its_protection_domain_without_a_leak() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    let (pd, session) = (open_pd(&mut core), open(&mut core, "VM", QUOTA).unwrap());
    let ram = core.alloc_ram_step(pd.key, 0x4000).unwrap();
    let mut call = vm::Call { core: &mut core, key: session.key };
    call.bind(own(pd.key)).unwrap();
    call.attach(own(ram), GuestAttachment { guest_address: 0, offset: 0, size: 0, rights: 3 }).unwrap();
    call.create_vcpu(0, 0x100).unwrap();
    call.start_vcpu(0).unwrap();
    core.close_session(pd);
    let mut call = vm::Call { core: &mut core, key: session.key };
    assert_eq!(call.create_vcpu(0, 0x100).map(drop), Err(VmError::InvalidPd));
    assert_eq!(call.start_vcpu(0), Err(VmError::InvalidPd));
    core.close_session(session);
    assert_eq!(before, figures(&core));
}

#[test]
fn without_virtualization_there_is_no_vm_service() {
    let model = model();
    let mut core = core(&model);
    core.machine_info.features = Features::empty();
    assert_eq!(open(&mut core, "VM", QUOTA), Err(SessionError::Denied));
    core.machine_info.vcpu_absence = VcpuAbsence::Firmware;
    assert_eq!(open(&mut core, "VM", QUOTA), Err(SessionError::Denied));
    let log = ["[core] VM service absent: CPU has no SVM/VMX", "[core] VM service absent: disabled by firmware"];
    assert_eq!(model.state.borrow().log, log);
}
