//! The machines that scenarios run on, and the emulators that provide them.

pub mod bochs;
pub mod qemu;
pub mod terminal;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::host::packages::Purpose;
use crate::machine::terminal::Terminal;
use crate::scenario::Scenario;
use crate::scenario::size::Size;

/// An emulator and the virtualisation hardware it emulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// QEMU: AMD SVM, no IOMMU.
    #[default]
    QemuSvm,
    /// QEMU: no virtualisation.
    QemuNoSvm,
    /// QEMU: AMD SVM with Intel's IOMMU (VT-d).
    QemuSvmIntelIommu,
    /// QEMU: AMD SVM with AMD's IOMMU (AMD-Vi).
    QemuSvmAmdIommu,
    /// Bochs: Intel VMX, as a Skylake-X has it.
    BochsVmx,
    /// Bochs: Intel VMX, as a Tiger Lake has it.
    BochsVmxTigerlake,
    /// Bochs: Intel VMX without EPT, as a Penryn has it.
    BochsVmxNoEpt,
    /// Bochs: Intel VMX that cannot run guests without paging, as a Lynnfield has it.
    BochsVmxRestricted,
    /// Bochs: Intel VMX that the firmware has switched off for good.
    BochsVmxLocked,
    /// Bochs: Intel VMX that the firmware has left as it was at reset, for the system to switch on.
    BochsVmxUndecided,
    /// Bochs: AMD SVM.
    BochsSvm,
}

impl Platform {
    /// Whether the emulator is Bochs. That boots from media only, because it has no loader for boot modules.
    pub fn is_bochs(self) -> bool {
        match self {
            Self::QemuSvm | Self::QemuNoSvm | Self::QemuSvmIntelIommu | Self::QemuSvmAmdIommu => false,
            Self::BochsVmx | Self::BochsVmxTigerlake | Self::BochsVmxNoEpt | Self::BochsVmxRestricted => true,
            Self::BochsVmxLocked | Self::BochsVmxUndecided | Self::BochsSvm => true,
        }
    }

    /// The firmware that boots an image, where the machine boots one: because that is wanted, or because it can do nothing else.
    pub fn medium_firmware(self, wanted: Option<Firmware>) -> Option<Firmware> {
        wanted.or(self.is_bochs().then_some(Firmware::Bios))
    }

    /// What its firmware does before a boot loader runs and the emulator's does not, as commands of the boot loader.
    pub fn firmware(self) -> &'static [&'static str] {
        match self {
            // IA32_FEATURE_CONTROL: locked, without VMX (SDM vol. 3, 24.7).
            Self::BochsVmxLocked => &["wrmsr 0x3a 0x1"],
            _ => &[],
        }
    }

    /// Most terminals that it has. Bochs connects two serial lines, and one of them has the log.
    pub fn terminals(self) -> usize {
        if self.is_bochs() { 1 } else { Terminal::ALL.len() }
    }

    /// What the host must have.
    pub fn needs(self) -> &'static [Purpose] {
        if self.is_bochs() { &[Purpose::Bochs, Purpose::Image] } else { &[Purpose::Qemu] }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(self, formatter)
    }
}

/// Firmware that boots an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// The emulator's own PC BIOS.
    Bios,
    /// OVMF.
    Uefi,
}

impl fmt::Display for Firmware {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(self, formatter)
    }
}

/// The name that command lines and scenario files use.
fn display(value: &impl ValueEnum, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value.to_possible_value() {
        Some(value) => formatter.write_str(value.get_name()),
        None => Ok(()),
    }
}

/// What a machine's time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Time {
    /// Passes with the host's; CPUs take turns.
    #[default]
    Host,
    /// The same, and each CPU has a thread of its own. Not where guests run: restoring a floating-point state on any CPU makes
    /// QEMU rewrite flags of the first one from the wrong thread, among them whether it is in a guest (decision 0006).
    Parallel,
    /// The time stamp counter ticks once per instruction, and idle time is skipped: measurements repeat exactly.
    Instructions,
}

/// A machine to start.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Emulator and its hardware.
    pub platform: Platform,
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory: Size,
    /// Number of terminals.
    pub terminals: usize,
    /// Its time. Bochs' counter counts instructions anyway.
    pub time: Time,
    /// Wait for a debugger before the first instruction.
    pub debugger: bool,
    /// More arguments of the emulator, if it is QEMU.
    pub more: Vec<String>,
}

impl Machine {
    /// The machine of a scenario.
    pub fn of(scenario: &Scenario, time: Time) -> Self {
        Self {
            platform: scenario.machine,
            cpus: scenario.cpus,
            memory: scenario.memory,
            terminals: scenario.machine_terminals(),
            time,
            debugger: false,
            more: Vec::new(),
        }
    }
}

/// What a machine boots. File names are relative to the emulator's working folder.
#[derive(Debug, Clone)]
pub enum Medium {
    /// The emulator loads a kernel itself.
    Direct {
        /// Multiboot or Linux kernel.
        kernel: String,
        /// Its command line.
        append: String,
        /// Multiboot modules, or one initial RAM disk.
        modules: Vec<String>,
    },
    /// An image on a CD.
    Image {
        /// The image.
        file: String,
        /// What boots it.
        firmware: Firmware,
    },
}

/// Where the emulator connects a serial line to.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port on this machine.
    Tcp(u16),
}

/// The serial lines of a machine.
#[derive(Debug, Clone)]
pub struct SerialLines {
    /// The terminals, first to last: COM1, COM3, COM4.
    pub terminals: Vec<Endpoint>,
    /// COM2: the log.
    pub log: Endpoint,
}

/// A command that runs in `folder` and dies with this tool, however that ends.
fn tied_command(folder: &Path, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]).current_dir(folder);
    command
}
