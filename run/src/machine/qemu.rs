//! QEMU, always with its own code generator: it emulates SVM, which KVM here would not offer.

use std::path::Path;
use std::process::Command;

use crate::error::Result;
use crate::host::packages::{OVMF_CODE, OVMF_VARIABLES};
use crate::machine::terminal::Terminal;
use crate::machine::{Endpoint, Firmware, Machine, Medium, Platform, SerialLines, Time, tied_command};
use crate::repository;

/// A clock that does not read the host's: a system that reads it does the same in each run.
const FIXED_CLOCK: &str = "base=2026-01-01T00:00:00,clock=vm";
const VARIABLES: &str = "uefi-variables.fd";
/// Where gdb connects to with `--gdb`.
pub const DEBUGGER: &str = "localhost:1234";

/// The command that starts a machine in `folder`.
pub fn command(machine: &Machine, medium: &Medium, lines: &SerialLines, folder: &Path) -> Result<Command> {
    let mut command = tied_command(folder, "qemu-system-x86_64");
    command.args(match machine.time {
        Time::Host => ["-accel", "tcg,thread=single"].as_slice(),
        Time::Parallel => &["-accel", "tcg,thread=multi"],
        Time::Instructions => &["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-rtc", FIXED_CLOCK],
    });
    command.args(["-machine", "q35", "-cpu", cpu(machine.platform)]);
    command.args(["-smp", &machine.cpus.to_string(), "-m", &machine.memory.in_mib().to_string()]);
    command.args([
        "-display",
        "none",
        "-vga",
        "none",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-monitor",
        "none",
    ]);
    // A device of every machine that signals messages (MSI): for those who check their delivery.
    command.args(["-global", "hpet.msi=true"]);
    match machine.platform {
        Platform::QemuSvmIntelIommu => command.args(["-device", "intel-iommu,intremap=on"]),
        Platform::QemuSvmAmdIommu => command.args(["-device", "amd-iommu,intremap=on"]),
        _ => &mut command,
    };
    add_serial_lines(&mut command, lines);
    if machine.debugger {
        command.args(["-gdb", &format!("tcp:{DEBUGGER}"), "-S"]);
    }
    add_medium(&mut command, medium, folder)?;
    command.args(&machine.more);
    Ok(command)
}

fn cpu(platform: Platform) -> &'static str {
    // EPYC is the oldest model with nested paging; what TCG lacks of it is not worth a warning.
    match platform {
        Platform::QemuNoSvm => "EPYC,check=off,svm=off",
        _ => "EPYC,check=off",
    }
}

/// First I/O port and interrupt of COM3 and COM4. The ports are those of every PC; the interrupts are those of the parallel
/// ports, which nobody has, because COM1 and COM2 do not share theirs.
const MORE_UARTS: [&str; 2] = ["iobase=0x3e8,irq=5", "iobase=0x2e8,irq=7"];

fn add_serial_lines(command: &mut Command, lines: &SerialLines) {
    let mut terminals = Terminal::ALL.iter().zip(&lines.terminals);
    let first = terminals.next().map(|(terminal, endpoint)| (terminal.name(), endpoint));
    // The order decides: the first line is COM1, the second COM2.
    for (name, endpoint) in first.into_iter().chain([("log", &lines.log)]) {
        command.args(["-chardev", &character_device(name, endpoint)]);
        command.args(["-serial", &format!("chardev:{name}")]);
    }
    for ((terminal, endpoint), place) in terminals.zip(MORE_UARTS) {
        let name = terminal.name();
        command.args(["-chardev", &character_device(name, endpoint)]);
        command.args(["-device", &format!("isa-serial,chardev={name},{place}")]);
    }
}

fn character_device(name: &str, endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => format!("socket,id={name},server=off,path={}", escape(&path.to_string_lossy())),
        Endpoint::Tcp(port) => format!("socket,id={name},server=off,host=127.0.0.1,port={port}"),
    }
}

fn add_medium(command: &mut Command, medium: &Medium, folder: &Path) -> Result<()> {
    match medium {
        Medium::Direct { kernel, append, modules } => {
            command.args(["-kernel", kernel, "-append", append]);
            if !modules.is_empty() {
                command.args(["-initrd", &modules.join(",")]);
            }
        }
        Medium::Image { file, firmware } => {
            command.args([
                "-drive",
                &format!("file={},format=raw,media=cdrom,readonly=on", escape(file)),
                "-boot",
                "d",
            ]);
            if *firmware == Firmware::Uefi {
                repository::copy(Path::new(OVMF_VARIABLES), &folder.join(VARIABLES))?;
                command.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}")]);
                command.args(["-drive", &format!("if=pflash,format=raw,file={VARIABLES}")]);
            }
        }
    }
    Ok(())
}

/// A value in QEMU's option syntax, where a comma ends it unless doubled.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::size::Size;

    fn arguments(platform: Platform, medium: &Medium) -> String {
        let machine = Machine {
            platform,
            cpus: 4,
            memory: Size::mib(512),
            terminals: 2,
            time: Time::Host,
            debugger: false,
            more: vec!["-d".into()],
        };
        let lines = SerialLines {
            terminals: vec![Endpoint::Unix("/tmp/a,b".into()), Endpoint::Tcp(98)],
            log: Endpoint::Tcp(99),
        };
        let command = command(&machine, medium, &lines, Path::new("/stage")).unwrap();
        command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn direct() -> Medium {
        let modules = ["core", "init", "config"].map(str::to_owned).to_vec();
        Medium::Direct { kernel: "hypervisor".into(), append: "log=com2".into(), modules }
    }

    #[test]
    fn modules_are_one_argument() {
        let text = arguments(Platform::QemuSvm, &direct());
        assert!(text.contains("-kernel hypervisor -append log=com2 -initrd core,init,config -d"), "{text}");
        assert!(text.contains("-smp 4 -m 512") && text.contains("-accel tcg") && !text.contains("iommu"), "{text}");
    }

    #[test]
    fn the_terminal_is_the_first_serial_line() {
        let text = arguments(Platform::QemuSvm, &direct());
        assert!(text.contains("path=/tmp/a,,b -serial chardev:terminal"), "{text}");
        assert!(text.find("chardev:terminal") < text.find("chardev:log"), "{text}");
    }

    #[test]
    fn further_terminals_are_further_uarts() {
        let text = arguments(Platform::QemuSvm, &direct());
        assert!(
            text.contains("id=terminal2,server=off,host=127.0.0.1,port=98")
                && text.contains("-device isa-serial,chardev=terminal2,iobase=0x3e8,irq=5"),
            "{text}"
        );
        assert!(!text.contains("terminal3"), "{text}");
    }

    #[test]
    fn virtualisation_can_be_missing() {
        assert!(arguments(Platform::QemuNoSvm, &direct()).contains(",svm=off"));
        assert!(!arguments(Platform::QemuSvm, &direct()).contains("svm=off"));
    }

    #[test]
    fn an_iommu_is_a_device() {
        assert!(arguments(Platform::QemuSvmIntelIommu, &direct()).contains("-device intel-iommu"));
        assert!(arguments(Platform::QemuSvmAmdIommu, &direct()).contains("-device amd-iommu"));
    }
}
