//! A bootable image: hybrid ISO for CD and USB, BIOS and UEFI, with GRUB.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::boot::stage::Stage;
use crate::error::{Error, Result};
use crate::host::command::output;
use crate::host::packages::{self, Purpose};
use crate::repository;
use crate::scenario::Boot;

/// Writes an image of a stage.
pub fn write(stage: &Stage, file: &Path) -> Result<()> {
    packages::ensure(&[Purpose::Image])?;
    let tree = stage.folder.join("image");
    let boot = tree.join("boot");
    repository::create_empty_folder(&tree)?;
    repository::create_folder(&boot.join("grub"))?;
    for name in std::iter::once(&stage.kernel).chain(&stage.modules) {
        repository::copy(&stage.folder.join(name), &boot.join(name))?;
    }
    repository::write(&boot.join("grub/grub.cfg"), menu(stage)?)?;
    // grub-mkrescue says a page about nothing; an error quotes its last line.
    output(Command::new("grub-mkrescue").arg("-o").arg(file).arg(&tree))?;
    // The image has everything in it: the tree is only a second copy.
    std::fs::remove_dir_all(&tree).map_err(|cause| Error::io("delete", &tree, &cause))
}

fn menu(stage: &Stage) -> Result<String> {
    let append = stage.append.split_whitespace().map(quote).collect::<Result<Vec<_>>>()?.join(" ");
    let (load_kernel, load_module) = match stage.boot {
        Boot::Hypervisor => ("multiboot2", "module2"),
        Boot::Linux => ("linux", "initrd"),
    };
    let firmware: String = stage.firmware.iter().map(|command| format!("  {command}\n")).collect();
    let mut text =
        format!("set timeout=0\nmenuentry Kilonova {{\n{firmware}  {load_kernel} /boot/{} {append}\n", stage.kernel);
    for module in &stage.modules {
        let name = if stage.boot == Boot::Hypervisor { module.as_str() } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {load_module} /boot/{module} {name}");
    }
    text.push_str("}\n");
    Ok(text)
}

/// A word in GRUB's shell syntax, where nothing is special between single quotes.
fn quote(word: &str) -> Result<String> {
    if word.contains('\'') {
        return Err(Error::new(format!("GRUB cannot pass `{word}` on")).remedy("leave out the single quote"));
    }
    Ok(format!("'{word}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(boot: Boot) -> Stage {
        Stage {
            folder: "/stage".into(),
            boot,
            kernel: "kernel".into(),
            append: "log=com2 a;b".into(),
            modules: vec!["core".into(), "config".into()],
            firmware: &[],
        }
    }

    #[test]
    fn the_loader_comes_behind_the_firmware() {
        let text = menu(&Stage { firmware: &["wrmsr 1 2"], ..stage(Boot::Hypervisor) }).unwrap();
        assert!(text.contains("{\n  wrmsr 1 2\n  multiboot2 "), "{text}");
    }

    #[test]
    fn modules_carry_their_names() {
        let text = menu(&stage(Boot::Hypervisor)).unwrap();
        assert!(text.contains("multiboot2 /boot/kernel 'log=com2' 'a;b'\n"), "{text}");
        assert!(text.contains("module2 /boot/core core\n  module2 /boot/config config\n"), "{text}");
        assert!(text.starts_with("set timeout=0\n"), "{text}");
    }

    #[test]
    fn quotes_are_refused() {
        let stage = Stage { append: "a'b".into(), ..stage(Boot::Linux) };
        assert!(menu(&stage).unwrap_err().to_string().contains("`a'b`"));
    }
}
