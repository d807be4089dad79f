//! Bochs: the emulator with VMX, and a second opinion on SVM. It boots images only.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::host::packages::{BOCHS_BIOS, BOCHS_VGA_BIOS, SEABIOS};
use crate::machine::{Endpoint, Firmware, Machine, Medium, Platform, SerialLines, tied_command};
use crate::repository;

const CONFIGURATION: &str = "bochsrc";
const DEBUGGER_COMMANDS: &str = "bochs-debugger";

/// The command that starts a machine in `folder`, whose configuration is written there.
pub fn command(machine: &Machine, medium: &Medium, lines: &SerialLines, folder: &Path) -> Result<Command> {
    let Medium::Image { file, firmware: Firmware::Bios } = medium else {
        return Err(Error::new("Bochs boots images from BIOS only").remedy("use a QEMU machine"));
    };
    if machine.debugger {
        return Err(Error::new("Bochs has no debugger connection").remedy("use a QEMU machine"));
    }
    if !machine.more.is_empty() {
        return Err(Error::new("Bochs is configured by a file, not by arguments").remedy("use a QEMU machine"));
    }
    repository::write(&folder.join(CONFIGURATION), configuration(machine, file, lines)?)?;
    // Debian's Bochs has its debugger built in, which waits for this command.
    repository::write(&folder.join(DEBUGGER_COMMANDS), "continue\n")?;
    // Its text display insists on a terminal; `script` gives it one that nobody looks at.
    let mut command = tied_command(folder, "script");
    let bochs = format!("exec bochs -q -rc {DEBUGGER_COMMANDS} -f {CONFIGURATION}");
    command.args(["--quiet", "--return", "--command", &bochs, "/dev/null"]).env("TERM", "xterm");
    Ok(command)
}

fn configuration(machine: &Machine, image: &str, lines: &SerialLines) -> Result<String> {
    // Unknown MSRs fault, as on hardware. But `ryzen` lacks VM_CR, which every CPU with SVM has (APM vol. 2, 15.30.1).
    let (model, ignore_bad_msrs) = match machine.platform {
        Platform::BochsSvm => ("ryzen", 1),
        Platform::BochsVmxTigerlake => ("tigerlake", 0),
        Platform::BochsVmxNoEpt => ("core2_penryn_t9600", 0),
        Platform::BochsVmxRestricted => ("corei5_lynnfield_750", 0),
        _ => ("corei7_skylake_x", 0),
    };
    let bios = match machine.platform {
        // Bochs' own BIOS locks VMX on.
        Platform::BochsVmxLocked | Platform::BochsVmxUndecided => SEABIOS,
        _ => BOCHS_BIOS,
    };
    let (cpus, memory) = (machine.cpus, machine.memory.in_mib());
    let mut text = format!(
        "display_library: term\n\
         memory: guest={memory}, host={memory}\n\
         romimage: file={bios}\n\
         vgaromimage: file={BOCHS_VGA_BIOS}\n\
         cpu: model={model}, count={cpus}, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs={ignore_bad_msrs}\n\
         clock: sync=none\n\
         ata0-master: type=cdrom, path={image}, status=inserted\n\
         boot: cdrom\n\
         pci: enabled=1, chipset=i440fx\n\
         log: bochs.txt\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=ignore\n"
    );
    let terminals = lines.terminals.iter().map(|endpoint| ("com1", endpoint));
    for (name, endpoint) in terminals.chain([("com2", &lines.log)]) {
        let Endpoint::Tcp(port) = endpoint else {
            return Err(Error::new("Bochs connects serial lines by TCP only"));
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: enabled=1, mode=socket-client, dev=127.0.0.1:{port}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::size::Size;

    const MACHINE: Machine = Machine {
        platform: Platform::BochsVmx,
        cpus: 2,
        memory: Size::mib(256),
        terminals: 1,
        time: crate::machine::Time::Host,
        debugger: false,
        more: Vec::new(),
    };

    fn lines() -> SerialLines {
        SerialLines { terminals: vec![Endpoint::Tcp(1)], log: Endpoint::Tcp(2) }
    }

    #[test]
    fn the_model_has_the_wanted_extension() {
        let text = |platform| {
            let machine = Machine { platform, ..MACHINE };
            configuration(&machine, "image.iso", &lines()).unwrap()
        };
        assert!(text(Platform::BochsVmx).contains("model=corei7_skylake_x, count=2"));
        assert!(text(Platform::BochsVmxTigerlake).contains("model=tigerlake"));
        assert!(text(Platform::BochsSvm).contains("model=ryzen"));
        assert!(text(Platform::BochsVmxLocked).contains("romimage: file=/usr/share/seabios/"));
        assert!(text(Platform::BochsSvm).contains("com2: enabled=1, mode=socket-client, dev=127.0.0.1:2"));
    }

    #[test]
    fn what_bochs_cannot_do_is_said() {
        let medium = |firmware| Medium::Image { file: "image.iso".into(), firmware };
        let refusal = |machine, firmware| {
            let error = command(&machine, &medium(firmware), &lines(), Path::new("/nowhere"));
            error.unwrap_err().to_string()
        };
        assert!(refusal(MACHINE, Firmware::Uefi).contains("BIOS only"));
        let debugger = Machine { debugger: true, ..MACHINE };
        assert!(refusal(debugger, Firmware::Bios).contains("no debugger"));
        let more = Machine { more: vec!["-S".into()], ..MACHINE };
        assert!(refusal(more, Firmware::Bios).contains("not by arguments"));
    }
}
