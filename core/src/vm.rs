//! VM: guest-physical memory and virtual CPUs, made in the VMM's protection domain and paid by it.

use crate::Core;
use crate::account::{AccountError, AccountId, Resources};
use crate::affinity::CpuSet;
use crate::cpu::{BUDGET_US, Band};
use crate::dataspace::Content;
use crate::kernel::Machine;
use crate::object::{Handle, Key};
use crate::ranges::Range;
use crate::region_map::ACCESS;
use crate::regions::{self, RegionMap};
use abi::PAGE_SIZE;
use abi::cap::Sel;
use abi::hypercall::{CpuId, CreateEc, CreateSc, EcBody, SpaceKind};
use abi::session::dataspace::Dataspace;
use abi::session::pd::Pd;
use abi::session::vm::{self, GuestAttachment, VmError};
use abi::session::wire::{Kind as _, Typed, VcpuContext};
use abi::status::Status;
use alloc::vec::Vec;

/// Guest-physical addresses: what four levels of page tables translate (APM vol. 2, 15.25; SDM vol. 3, 28.3.2).
const GUEST_SIZE: u64 = 1 << 48;

/// A virtual CPU.
#[derive(Clone, Copy, Debug)]
struct Vcpu {
    /// Execution context, followed by the scheduling context.
    ec: Sel,
    running: bool,
}

/// Selectors of a vCPU.
const SELECTORS: u64 = 2;
/// What a vCPU and what a guest region cost the session: the memory that core keeps for it.
const PART_COST: Resources = Resources::caps(1);

/// The protection domain that a VM is part of.
#[derive(Clone, Copy, Debug)]
struct Home {
    key: Key,
    pd: Sel,
    /// Guest-physical memory, followed by the MSRs that need no exit.
    guest: Sel,
}

impl Home {
    fn msrs(self) -> Sel {
        self.guest.offset(1)
    }
}

/// Selectors of a home's spaces.
const SPACES: u64 = 2;
/// First register and number of those that vCPUs have for themselves: SYSENTER_CS to SYSENTER_EIP, STAR to SFMASK, and
/// FS_BASE to KERNEL_GS_BASE (APM vol. 2, appendix A). They are the guest's state and nothing else, so that no VMM wants
/// to see them accessed.
const GUEST_MSRS: [(u64, u64); 3] = [(0x174, 3), (0xc000_0081, 4), (0xc000_0100, 3)];

/// A VM session.
#[derive(Clone, Debug)]
pub struct Vm {
    account: AccountId,
    band: Band,
    cpus: CpuSet,
    home: Option<Home>,
    was_bound: bool,
    regions: RegionMap<Key>,
    vcpus: Vec<Vcpu>,
}

impl Vm {
    /// A VM that is not bound to a protection domain.
    #[must_use]
    pub const fn new(account: AccountId, band: Band, cpus: CpuSet, guest_memory: Range) -> Self {
        let regions = RegionMap::new(guest_memory);
        Self { account, band, cpus, home: None, was_bound: false, regions, vcpus: Vec::new() }
    }

    /// All guest-physical memory.
    #[must_use]
    pub const fn guest_memory() -> Option<Range> {
        Range::new(0, GUEST_SIZE)
    }
}

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> vm::Server<Handle> for Call<'_, '_, M> {
    fn bind(&mut self, pd: Typed<Pd, Handle>) -> Result<(), VmError> {
        let key = pd.into_name().own().ok_or(VmError::InvalidPd)?;
        let pd = self.core.pds.get(&key).ok_or(VmError::InvalidPd)?.kernel;
        if self.core.vms.get(&self.key).is_none_or(|vm| vm.was_bound) {
            return Err(VmError::InvalidPd);
        }
        let guest = self.core.alloc_selectors(SPACES).map_err(vm_error)?;
        let home = Home { key, pd, guest };
        if let Err(status) = self.core.make_spaces(home) {
            self.core.destroy_spaces(home);
            return Err(status_error(status));
        }
        if let Some(vm) = self.core.vms.get_mut(&self.key) {
            vm.home = Some(home);
            vm.was_bound = true;
        }
        Ok(())
    }

    fn attach(&mut self, dataspace: Typed<Dataspace, Handle>, wish: GuestAttachment) -> Result<(), VmError> {
        let key = dataspace.into_name().own().ok_or(VmError::InvalidDataspace)?;
        self.core.attach_guest(self.key, key, &wish)
    }

    fn detach(&mut self, guest_address: u64, size: u64) -> Result<(), VmError> {
        let aligned = guest_address.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE);
        let range = Range::new(guest_address, size).filter(|_| aligned).ok_or(VmError::BadParameter)?;
        let vm = self.core.vms.get(&self.key).ok_or(VmError::InvalidPd)?;
        let hit: Vec<Range> = vm.regions.iter().map(|region| region.range).filter(|at| at.overlaps(range)).collect();
        // A part of a region cannot go alone.
        if hit.iter().any(|&at| !range.contains(at)) {
            return Err(VmError::BadParameter);
        }
        for at in hit {
            self.core.detach_guest_region(self.key, at.base());
        }
        Ok(())
    }

    fn create_vcpu(&mut self, cpu: u32, event_base: u64) -> Result<Typed<VcpuContext, Handle>, VmError> {
        let vm = self.core.vms.get(&self.key).ok_or(VmError::InvalidPd)?;
        let home = vm.home.ok_or(VmError::InvalidPd)?;
        let cpu = vm.cpus.get(cpu).ok_or(VmError::NoSuchCpu)?;
        let event_base = Some(Sel(event_base)).filter(|sel| sel.0 < Sel::COUNT).ok_or(VmError::BadParameter)?;
        let account = vm.account;
        self.core.ledger.charge(account, PART_COST).map_err(vm_error)?;
        let ec = self.core.make_vcpu(home, cpu, event_base).inspect_err(|_| self.core.credit(account, PART_COST))?;
        if let Some(vm) = self.core.vms.get_mut(&self.key) {
            vm.vcpus.push(Vcpu { ec, running: false });
        }
        Ok(Typed::new(Handle::Foreign(ec, VcpuContext::PERMS)))
    }

    fn start_vcpu(&mut self, index: u32) -> Result<(), VmError> {
        let vm = self.core.vms.get_mut(&self.key).ok_or(VmError::InvalidPd)?;
        let pd = vm.home.ok_or(VmError::InvalidPd)?.pd;
        let vcpu = usize::try_from(index).ok().and_then(|index| vm.vcpus.get_mut(index));
        let vcpu = vcpu.filter(|vcpu| !vcpu.running).ok_or(VmError::BadParameter)?;
        let (ec, priority) = (vcpu.ec, vm.band.below(0));
        let sc = CreateSc { dst: ec.offset(1), pd, ec, priority, budget_us: BUDGET_US };
        self.core.kernel.0.create_sc(sc).map_err(status_error)?;
        vcpu.running = true;
        Ok(())
    }
}

fn vm_error(error: AccountError) -> VmError {
    match error {
        AccountError::OutOfRam => VmError::OutOfRam,
        _ => VmError::OutOfCaps,
    }
}

fn status_error(status: Status) -> VmError {
    match status {
        Status::OutOfMemory => VmError::OutOfCaps,
        Status::BadFeature => VmError::NoVirtualization,
        Status::BadCpu => VmError::NoSuchCpu,
        _ => VmError::BadParameter,
    }
}

impl<M: Machine> Core<'_, M> {
    fn make_spaces(&self, home: Home) -> Result<(), Status> {
        self.kernel.create_space(home.guest, home.pd, SpaceKind::Guest)?;
        self.kernel.create_space(home.msrs(), home.pd, SpaceKind::Msr)?;
        for msrs in GUEST_MSRS.into_iter().filter_map(|(first, count)| Range::new(first, count)) {
            self.kernel.give_msrs(msrs, home.msrs())?;
        }
        Ok(())
    }

    /// Makes the VMs that are bound to a protection domain forget it: guest memory and vCPUs have gone with it.
    pub(crate) fn unbind_vms(&mut self, pd: Key) {
        let gone = self.vms.values_mut().filter_map(|vm| vm.home.take_if(|home| home.key == pd));
        for home in gone.collect::<Vec<_>>() {
            self.destroy_spaces(home);
        }
    }

    fn destroy_spaces(&mut self, home: Home) {
        self.kernel.destroy(home.guest);
        self.kernel.destroy(home.msrs());
        self.free_selectors(home.guest, SPACES);
    }

    fn make_vcpu(&mut self, home: Home, cpu: CpuId, event_base: Sel) -> Result<Sel, VmError> {
        let ec = self.alloc_selectors(SELECTORS).map_err(vm_error)?;
        let body = EcBody::Vcpu { guest: home.guest, pio: Sel::NONE, msr: home.msrs() };
        let made = self.kernel.0.create_ec(CreateEc { dst: ec, pd: home.pd, cpu, event_base, body });
        made.map(|()| ec).map_err(|status| {
            self.free_selectors(ec, SELECTORS);
            status_error(status)
        })
    }

    /// Attaches memory to a guest and maps it at once, because guests do not fault memory in.
    fn attach_guest(&mut self, key: Key, dataspace: Key, wish: &GuestAttachment) -> Result<(), VmError> {
        let rights = wish.mem_rights().ok_or(VmError::BadParameter)? & ACCESS;
        let source = self.dataspaces.get(&dataspace).ok_or(VmError::InvalidDataspace)?;
        let Content::Physical { memory, rights: limit } = source.content else {
            return Err(VmError::InvalidDataspace);
        };
        let vm = self.vms.get_mut(&key).ok_or(VmError::InvalidPd)?;
        let (account, guest) = (vm.account, vm.home.ok_or(VmError::InvalidPd)?.guest);
        let attachment = regions::Attachment {
            dataspace,
            dataspace_size: memory.size(),
            backing: memory.base(),
            offset: wish.offset,
            size: (wish.size != 0).then_some(wish.size),
            at: Some(wish.guest_address),
            rights,
        };
        self.ledger.charge(account, PART_COST).map_err(vm_error)?;
        let region = vm.regions.attach(&attachment).map_err(|error| {
            let credited = self.ledger.credit(account, PART_COST);
            debug_assert!(credited.is_ok(), "just charged");
            match error {
                regions::AttachError::Unaligned => VmError::BadParameter,
                regions::AttachError::OutOfDataspace => VmError::InvalidDataspace,
                regions::AttachError::Conflict => VmError::Conflict,
            }
        })?;
        if let Some(source) = self.dataspaces.get_mut(&dataspace) {
            source.guests.insert((key, region.range.base()));
        }
        let rights = (rights & limit) | (limit - ACCESS);
        let mapped = Range::new(memory.base() + region.offset, region.range.size())
            .ok_or(Status::BadParameter)
            .and_then(|memory| self.kernel.map(memory, guest, region.range.base(), rights));
        mapped.map_err(|status| {
            self.detach_guest_region(key, region.range.base());
            status_error(status)
        })
    }

    /// Detaches the region of a guest that contains `address`.
    pub(crate) fn detach_guest_region(&mut self, key: Key, address: u64) {
        let Some(vm) = self.vms.get_mut(&key) else {
            return;
        };
        let Some(region) = vm.regions.detach(address) else {
            return;
        };
        let account = vm.account;
        if let Some(home) = vm.home {
            self.kernel.unmap(home.guest, region.range);
        }
        if let Some(source) = self.dataspaces.get_mut(&region.dataspace) {
            source.guests.remove(&(key, region.range.base()));
        }
        self.credit(account, PART_COST);
    }

    /// Closes a VM session: vCPUs first, then the memory that they run in.
    pub(crate) fn destroy_vm(&mut self, key: Key) {
        while let Some(vcpu) = self.vms.get_mut(&key).and_then(|vm| vm.vcpus.pop()) {
            self.kernel.destroy(vcpu.ec.offset(1));
            self.kernel.destroy(vcpu.ec);
            self.free_selectors(vcpu.ec, SELECTORS);
            if let Some(account) = self.vms.get(&key).map(|vm| vm.account) {
                self.credit(account, PART_COST);
            }
        }
        while let Some(base) =
            self.vms.get(&key).and_then(|vm| vm.regions.iter().next()).map(|region| region.range.base())
        {
            self.detach_guest_region(key, base);
        }
        if let Some(home) = self.vms.remove(&key).and_then(|vm| vm.home) {
            self.destroy_spaces(home);
        }
        self.destroy_object(key);
    }
}
