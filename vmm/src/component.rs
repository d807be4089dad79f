//! What the library leaves to the component: sessions, guest memory, virtual CPUs and threads.

mod budget;
mod console;
mod hypervisor;
mod memory;
mod monitor;
mod processors;
mod terminal;

use std::fmt;
use std::num::NonZeroU64;

use abi::session::cpu::PRIORITY_LIMIT;
use abi::session::rtc::Rtc;
use abi::session::vm::Vm as VmSession;
use device_models::rtc::UnixSeconds;
use runtime::dataspace::Attached;
use runtime::env::Connection;
use runtime::rom::AttachedRom;
use runtime::{Env, Error};
use runtime_guest_memory::GuestRam;
use vmm::config::{BootConfig, LinuxBootConfig, VmmConfig};
use vmm::linux_boot::{File, FileTooShort, LinuxImage};
use vmm::loader;
use vmm::machine::MachineNode;
use vmm::vm::{Loader, Parts, Vm};

use budget::Needs;
use hypervisor::Hypervisor;

/// The virtual machine of this component.
type Machine = Vm<Hypervisor, GuestRam>;

/// How far virtual CPUs are below the component's own threads: one step of the kernel's priorities, so that input
/// and output are handled while the guest is busy.
const VCPU_PRIORITY: u64 = PRIORITY_LIMIT / 64;

/// Where the clock starts if nobody knows the time of day, as an empty battery leaves it: at 2000-01-01.
const EMPTY_BATTERY: UnixSeconds = UnixSeconds(946_684_800);

/// Builds the machine and starts it.
pub fn construct(env: &'static Env) -> Result<(), Error> {
    let text = AttachedRom::open(env, "config")?.text()?;
    let config = VmmConfig::parse(&text).map_err(Error::input)?;
    for name in config.machine.nodes().iter().filter_map(MachineNode::absent) {
        println!("<{name}>: there is no model of it, the machine goes without");
    }
    let session: Connection<VmSession> = env.connect(&format!("priority={VCPU_PRIORITY}"))?;
    session.bind(env.pd_cap())?;
    let linux = linux_of(&config)?;
    let kernel = file(env, &linux.kernel)?;
    let initrd = linux.initrd.as_deref().map(|name| file(env, name)).transpose()?;
    let layout = config.machine.memory();
    let vcpus = config.machine.vcpu_count();
    budget::check(env, Needs { guest_ram: memory::cost(layout), copies: kernel.size(), vcpus: vcpus as u64 })?;
    let memory = memory::allocate(env, &session, layout)?;
    let tsc_hz = NonZeroU64::new(env.platform().tsc_hz).unwrap_or(NonZeroU64::MIN);
    // The kernel is copied, since its header is checked and its server may change it.
    let kernel = copy(&linux.kernel, kernel)?;
    let loader = loader_of(&config, linux, kernel, initrd, tsc_khz(tsc_hz.get()));
    let console = console::Console::open(env, &config)?;
    let kernel = Hypervisor::new(vcpus, console.attention(), env.pd().clone())?;
    let parts = Parts { kernel, memory, tsc_hz, wall_clock: wall_clock(env), loader };
    // It lives as long as the component.
    let vm: &'static Machine = Box::leak(Box::new(Vm::new(config, parts).map_err(Error::input)?));
    console.serve(vm)?;
    monitor::serve(env, vm)?;
    processors::start(env, vm, &session)?;
    core::mem::forget(session);
    Ok(())
}

/// The time of day, asked once: from then on the guest's clock follows the time stamp counter.
fn wall_clock(env: &'static Env) -> UnixSeconds {
    let seconds = env
        .connect::<Rtc>("")
        .ok()
        .and_then(|rtc| rtc.unix_seconds().ok())
        .and_then(|seconds| i64::try_from(seconds).ok());
    seconds.map_or_else(
        || {
            println!("no RTC session: the guest's clock starts in 2000");
            EMPTY_BATTERY
        },
        UnixSeconds,
    )
}

fn tsc_khz(tsc_hz: u64) -> u32 {
    const HZ_PER_KHZ: u64 = 1000;
    u32::try_from(tsc_hz / HZ_PER_KHZ).unwrap_or(u32::MAX)
}

/// What is to be booted.
fn linux_of(config: &VmmConfig) -> Result<LinuxBootConfig, Error> {
    match &config.boot {
        Some(BootConfig::Linux(linux)) => Ok(linux.clone()),
        Some(BootConfig::Multiboot(_)) => Err(Error::input("<multiboot>: there is no loader for it")),
        None => Err(Error::input("<config> has no <linux>: nothing to boot")),
    }
}

/// What fills guest memory.
fn loader_of(
    config: &VmmConfig,
    linux: LinuxBootConfig,
    kernel: Vec<u8>,
    initrd: Option<RomFile>,
    tsc_khz: u32,
) -> Loader<GuestRam> {
    let machine = config.machine.clone();
    Box::new(move |memory| {
        let initrd = initrd.as_ref().map(|initrd| initrd as &dyn File);
        let image = LinuxImage { kernel: &kernel, initrd, cmdline: &linux.cmdline };
        loader::load_linux(memory, &machine, &image, tsc_khz).map_err(|error| error.to_string())
    })
}

/// A file that is there as long as the component: a machine that is reset reads it again.
struct RomFile(&'static Attached);

impl File for RomFile {
    fn size(&self) -> u64 {
        self.0.memory().size() as u64
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), FileTooShort> {
        let offset = usize::try_from(offset).map_err(|_| FileTooShort)?;
        self.0.memory().read(offset, to).map_err(|_| FileTooShort)
    }
}

fn file(env: &'static Env, name: &str) -> Result<RomFile, Error> {
    let rom = AttachedRom::open(env, name).map_err(|error| about(name, &error))?;
    let rom: &'static AttachedRom = Box::leak(Box::new(rom));
    rom.attached().map(RomFile).ok_or_else(|| about(name, &"empty"))
}

fn copy(name: &str, RomFile(attached): RomFile) -> Result<Vec<u8>, Error> {
    attached.copy(0, attached.memory().size()).map_err(|error| about(name, &error))
}

/// What is wrong with a file.
fn about(name: &str, what: &dyn fmt::Display) -> Error {
    Error::input(format!("file {name}: {what}"))
}
