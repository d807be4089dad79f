//! A server of everything that records what it is asked.

use abi::message::CapItem;
use abi::session::affinity::Affinity;
use abi::session::cpu::{self, CreateError, NoSuchCpu, THREAD_NAME_MAX, ThreadPlace};
use abi::session::cpu_thread::{self, CpuThread, StartError};
use abi::session::dataspace::{self, Dataspace};
use abi::session::irq::{self, IrqInfo};
use abi::session::parent::{
    self, ARGS_MAX, AnnounceError, NoSession, Parent, Progress, Quota, Response, SERVICE_MAX, SessionError,
    UpgradeError,
};
use abi::session::pd::{self, Account, AllocError, NotOwned, Pd, Platform, RefAccountError, TransferError};
use abi::session::region_map::{self, AttachError, Attachment, Fault, NoRegion, RegionMap};
use abi::session::report::{self, SubmitError};
use abi::session::rom::{self, RomError};
use abi::session::terminal::{self, TerminalSize};
use abi::session::vm::{self, GuestAttachment, VmError};
use abi::session::wire::{AnyObject, InterruptSemaphore, Signal, Text, Typed, VcpuContext};
use abi::session::{io_mem, io_port, log, rm, timer};

use crate::loopback::cap;

type Cap<K> = Typed<K, CapItem>;

/// Records calls.
#[derive(Default)]
pub struct Recorder {
    pub log: Vec<String>,
    pub fail: bool,
    pub cap_results: Vec<Option<Cap<AnyObject>>>,
}

impl Recorder {
    fn or<E>(&self, error: E) -> Result<(), E> {
        if self.fail { Err(error) } else { Ok(()) }
    }
}

impl timer::Server<CapItem> for Recorder {
    fn trigger_once(&mut self, us: u64) {
        self.log.push(format!("trigger_once {us}"));
    }
    fn trigger_periodic(&mut self, _: u64) {}
    fn sigh(&mut self, _: Cap<Signal>) {}
    fn elapsed_ms(&mut self) -> u64 {
        0
    }
    fn elapsed_us(&mut self) -> u64 {
        self.log.push("elapsed_us".into());
        42
    }
}

impl parent::Server<CapItem> for Recorder {
    fn exit(&mut self, _: i64) {}
    fn announce(&mut self, _: Text<SERVICE_MAX>) -> Result<(), AnnounceError> {
        self.or(AnnounceError::NotProvided)
    }
    fn session_sigh(&mut self, _: Cap<Signal>) {}
    fn session(
        &mut self,
        id: u64,
        service: Text<SERVICE_MAX>,
        args: Text<ARGS_MAX>,
        affinity: Affinity,
    ) -> Result<Option<Cap<AnyObject>>, SessionError> {
        self.log.push(format!("session {id} {service} {args} {affinity:?}"));
        self.or(SessionError::Denied).map(|()| self.cap_results.pop().flatten())
    }
    fn session_cap(&mut self, _: u64) -> Result<Cap<AnyObject>, SessionError> {
        self.or(SessionError::OutOfRam).map(|()| cap(1))
    }
    fn upgrade(&mut self, id: u64, quota: Quota) -> Result<Progress, UpgradeError> {
        self.log.push(format!("upgrade {id} {quota:?}"));
        Ok(Progress::Done)
    }
    fn close(&mut self, id: u64) -> Result<Progress, NoSession> {
        self.log.push(format!("close {id}"));
        Ok(Progress::Pending)
    }
    fn deliver_session_cap(&mut self, id: u64, cap: Cap<AnyObject>) {
        self.log.push(format!("deliver_session_cap {id} {}", cap.name().sel));
    }
    fn session_response(&mut self, id: u64, response: Response) {
        self.log.push(format!("session_response {id} {response}"));
    }
    fn resource_avail_sigh(&mut self, _: Cap<Signal>) {}
    fn resource_request(&mut self, _: Quota) {}
    fn yield_sigh(&mut self, _: Cap<Signal>) {}
    fn yield_request(&mut self) -> Quota {
        Quota::default()
    }
    fn yield_response(&mut self) {}
    fn heartbeat_sigh(&mut self, _: Cap<Signal>) {}
    fn heartbeat_response(&mut self) {}
}

impl pd::Server<CapItem> for Recorder {
    fn alloc_ram_step(&mut self, _: u64) -> Result<Cap<Dataspace>, AllocError> {
        self.or(AllocError::OutOfCaps).map(|()| cap(1))
    }
    fn free_ram(&mut self, _: Cap<Dataspace>) -> Result<(), NotOwned> {
        self.or(NotOwned::NotOwned)
    }
    fn account(&mut self) -> Account {
        Account { ram_quota: 1, ram_used: 2, cap_quota: 3, cap_used: 4 }
    }
    fn ref_account(&mut self, _: Cap<Pd>) -> Result<(), RefAccountError> {
        self.or(RefAccountError::AlreadySet)
    }
    fn transfer_ram(&mut self, _: Cap<Pd>, _: u64) -> Result<(), TransferError> {
        self.or(TransferError::Exceeded)
    }
    fn transfer_caps(&mut self, _: Cap<Pd>, _: u64) -> Result<(), TransferError> {
        self.or(TransferError::Invalid)
    }
    fn address_space(&mut self) -> Cap<RegionMap> {
        cap(1)
    }
    fn assign_parent(&mut self, _: Cap<Parent>) {}
    fn platform(&mut self) -> Platform {
        Platform::default()
    }
}

impl region_map::Server<CapItem> for Recorder {
    fn attach(&mut self, dataspace: Cap<Dataspace>, attachment: Attachment) -> Result<u64, AttachError> {
        self.log.push(format!("attach {} {attachment:?}", dataspace.name().sel));
        self.or(AttachError::Conflict).map(|()| attachment.address)
    }
    fn detach(&mut self, _: u64) -> Result<(), NoRegion> {
        self.or(NoRegion::NoRegion)
    }
    fn fault_handler(&mut self, _: Cap<Signal>) {}
    fn fault(&mut self) -> Option<Fault> {
        self.log.push("fault".into());
        (!self.fail).then_some(Fault { address: 0x1000, access: 3 })
    }
    fn dataspace(&mut self) -> Cap<Dataspace> {
        cap(1)
    }
}

impl rm::Server<CapItem> for Recorder {
    fn create(&mut self, _: u64) -> Result<Cap<RegionMap>, rm::CreateError> {
        self.or(rm::CreateError::BadSize).map(|()| cap(1))
    }
    fn destroy(&mut self, _: Cap<RegionMap>) {}
}

impl cpu::Server<CapItem> for Recorder {
    fn create_thread(
        &mut self,
        _: Cap<Pd>,
        _: Text<THREAD_NAME_MAX>,
        _: ThreadPlace,
    ) -> Result<Cap<CpuThread>, CreateError> {
        self.or(CreateError::NoSuchCpu).map(|()| cap(1))
    }
    fn physical_cpu(&mut self, _: u32) -> Result<u16, NoSuchCpu> {
        self.or(NoSuchCpu::NoSuchCpu).map(|()| 3)
    }
    fn kill_thread(&mut self, _: Cap<CpuThread>) {}
}

impl cpu_thread::Server<CapItem> for Recorder {
    fn start(&mut self, _: u64, _: u64) -> Result<(), StartError> {
        self.or(StartError::AlreadyStarted)
    }
    fn consumed(&mut self) -> u64 {
        0
    }
}

impl dataspace::Server<CapItem> for Recorder {
    fn size(&mut self) -> u64 {
        4096
    }
    fn writeable(&mut self) -> bool {
        true
    }
}

impl rom::Server<CapItem> for Recorder {
    fn dataspace(&mut self) -> Result<Cap<Dataspace>, RomError> {
        self.or(RomError::Empty).map(|()| cap(1))
    }
    fn update(&mut self) -> bool {
        false
    }
    fn sigh(&mut self, _: Cap<Signal>) {}
}

impl log::Server<CapItem> for Recorder {
    fn write(&mut self, line: Text<{ log::LINE_MAX }>) {
        self.log.push(format!("write {line}"));
    }
}

impl io_mem::Server<CapItem> for Recorder {
    fn dataspace(&mut self) -> Cap<Dataspace> {
        cap(1)
    }
}

impl io_port::Server<CapItem> for Recorder {
    fn bind(&mut self, _: Cap<Pd>) -> Result<(), io_port::BindError> {
        self.or(io_port::BindError::AlreadyBound)
    }
}

impl irq::Server<CapItem> for Recorder {
    fn bind(&mut self, _: Cap<InterruptSemaphore>) -> Result<IrqInfo, irq::BindError> {
        self.or(irq::BindError::InUse).map(|()| IrqInfo::default())
    }
}

impl vm::Server<CapItem> for Recorder {
    fn bind(&mut self, _: Cap<Pd>) -> Result<(), VmError> {
        self.or(VmError::InvalidPd)
    }
    fn attach(&mut self, _: Cap<Dataspace>, _: GuestAttachment) -> Result<(), VmError> {
        self.or(VmError::Conflict)
    }
    fn detach(&mut self, _: u64, _: u64) -> Result<(), VmError> {
        self.or(VmError::BadParameter)
    }
    fn create_vcpu(&mut self, _: u32, _: u64) -> Result<Cap<VcpuContext>, VmError> {
        self.or(VmError::NoSuchCpu).map(|()| cap(1))
    }
    fn start_vcpu(&mut self, _: u32) -> Result<(), VmError> {
        self.or(VmError::BadParameter)
    }
}

impl terminal::Server<CapItem> for Recorder {
    fn size(&mut self) -> TerminalSize {
        TerminalSize::default()
    }
    fn avail(&mut self) -> bool {
        false
    }
    fn read(&mut self, max: u64) -> u64 {
        max
    }
    fn write(&mut self, count: u64) -> u64 {
        count
    }
    fn is_sent(&mut self) -> bool {
        true
    }
    fn dataspace(&mut self) -> Cap<Dataspace> {
        cap(1)
    }
    fn connected_sigh(&mut self, _: Cap<Signal>) {}
    fn read_avail_sigh(&mut self, _: Cap<Signal>) {}
    fn size_changed_sigh(&mut self, _: Cap<Signal>) {}
}

impl report::Server<CapItem> for Recorder {
    fn dataspace(&mut self) -> Cap<Dataspace> {
        cap(1)
    }
    fn submit(&mut self, _: u64) -> Result<(), SubmitError> {
        self.or(SubmitError::TooLong)
    }
    fn response_sigh(&mut self, _: Cap<Signal>) {}
    fn obtain_response(&mut self) -> u64 {
        0
    }
}
