//! What the user changes of a scenario for one run.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::machine::Platform;
use crate::scenario::Scenario;
use crate::scenario::rom::{Rom, Source};
use crate::scenario::size::Size;

/// ROM that carries a guest's kernel.
pub const KERNEL_ROM: &str = "bzImage";
/// ROM that carries a guest's initial RAM disk.
pub const INITRD_ROM: &str = "initrd";
/// Placeholder for a guest's command line.
pub const APPEND: &str = "append";
/// Placeholder for a guest's memory.
pub const MEMORY: &str = "memory";
/// Placeholder that tells a VMM whether to report how often each kind of exit occurred.
pub const EXIT_STATS: &str = "exit_stats";

/// The least memory a guest can have.
const LEAST_GUEST_MEMORY: Size = Size::mib(64);
/// What the machine needs beside the guest's memory: hypervisor, components, boot modules.
const SYSTEM_MEMORY: Size = Size::mib(256);

/// Options that replace what is booted.
#[derive(Debug, Default, Args)]
pub struct Overrides {
    /// Linux kernel of the guest, instead of the scenario's
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk of the guest
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Kernel command line of the guest
    #[arg(long, value_name = "TEXT")]
    append: Option<String>,
    /// Memory of the guest, for example 512M or 2G; the machine has at least 256M more
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Let the VMM count VM exits: any key at its monitor terminal (Ctrl-A 2) shows how many so far, and the log has them in
    /// the end
    #[arg(long)]
    exit_stats: bool,
}

/// Options that replace parts of the machine.
#[derive(Debug, Default, Args)]
pub struct MachineOverrides {
    /// CPUs of the machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=255))]
    cpus: Option<u32>,
    /// Emulator and its hardware
    #[arg(long)]
    machine: Option<Platform>,
}

impl MachineOverrides {
    /// Changes a scenario.
    pub fn apply(&self, scenario: &mut Scenario) {
        scenario.cpus = self.cpus.unwrap_or(scenario.cpus);
        scenario.machine = self.machine.unwrap_or(scenario.machine);
    }
}

impl Overrides {
    /// Changes a scenario, or says which option does not fit it.
    pub fn apply(&self, scenario: &mut Scenario) -> Result<()> {
        for (option, rom, file) in [("--kernel", KERNEL_ROM, &self.kernel), ("--initrd", INITRD_ROM, &self.initrd)] {
            let Some(file) = file else { continue };
            check_file(option, file)?;
            let Some(replaced) = scenario.roms.get_mut(rom) else {
                return Err(does_not_fit(option, scenario));
            };
            let absolute = std::path::absolute(file).map_err(|cause| Error::io("find", file, &cause))?;
            *replaced = Rom::whole(Source::File(absolute));
        }
        if let Some(append) = &self.append {
            *option_of(scenario, "--append", APPEND)? = append.clone();
        }
        if let Some(memory) = self.memory {
            if memory < LEAST_GUEST_MEMORY {
                return Err(Error::new(format!("--memory {memory} is too little for a guest"))
                    .remedy(format!("give at least {LEAST_GUEST_MEMORY}")));
            }
            *option_of(scenario, "--memory", MEMORY)? = memory.to_string();
            let too_much = || Error::new(format!("--memory {memory} is more than a machine can have"));
            scenario.memory = scenario.memory.max(memory.checked_add(SYSTEM_MEMORY).ok_or_else(too_much)?);
        }
        if self.exit_stats {
            *option_of(scenario, "--exit-stats", EXIT_STATS)? = "yes".to_owned();
        }
        Ok(())
    }
}

fn option_of<'a>(scenario: &'a mut Scenario, option: &str, name: &str) -> Result<&'a mut String> {
    let error = does_not_fit(option, scenario);
    scenario.options.get_mut(name).ok_or(error)
}

fn does_not_fit(option: &str, scenario: &Scenario) -> Error {
    Error::new(format!("scenario `{}` has no use for {option}", scenario.name))
}

fn check_file(option: &str, path: &Path) -> Result<()> {
    let problem = |what: String| {
        Err(Error::new(format!("{option} {}: {what}", path.display())).remedy(format!("give {option} a readable file")))
    };
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Err(cause) => problem(cause.to_string()),
        Ok(metadata) if !metadata.is_file() => problem("not a file".to_owned()),
        Ok(metadata) if metadata.len() == 0 => problem("the file is empty".to_owned()),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Scenario {
        let scenario: Scenario = toml::from_str(&format!("summary = 'a'\n{text}")).unwrap();
        Scenario { name: "sample".into(), ..scenario }
    }

    fn linux() -> Scenario {
        scenario(
            "roms = { bzImage = 'text:a', initrd = 'text:b' }\n\
             options = { append = 'quiet', memory = '256M', exit_stats = 'no' }",
        )
    }

    #[test]
    fn the_guest_can_be_replaced() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "kernel").unwrap();
        let mut scenario = linux();
        let overrides = Overrides {
            kernel: Some(file.path().into()),
            append: Some("debug".into()),
            memory: Some(Size::mib(4096)),
            exit_stats: true,
            ..Overrides::default()
        };
        overrides.apply(&mut scenario).unwrap();
        assert_eq!(scenario.roms.get(KERNEL_ROM), Some(&Rom::whole(Source::File(file.path().into()))));
        assert_eq!(scenario.roms.get(INITRD_ROM), Some(&Rom::whole(Source::Text("b".into()))));
        assert_eq!(scenario.options.get(APPEND).map(String::as_str), Some("debug"));
        assert_eq!(scenario.options.get(MEMORY).map(String::as_str), Some("4G"));
        assert_eq!(scenario.options.get(EXIT_STATS).map(String::as_str), Some("yes"));
        assert_eq!(scenario.memory, Size::mib(4096 + 256));
    }

    #[test]
    fn the_machine_can_be_replaced() {
        let mut scenario = linux();
        MachineOverrides { cpus: Some(4), machine: None }.apply(&mut scenario);
        assert_eq!((scenario.cpus, scenario.machine), (4, Platform::QemuSvm));
        MachineOverrides { cpus: None, machine: Some(Platform::BochsSvm) }.apply(&mut scenario);
        assert_eq!((scenario.cpus, scenario.machine), (4, Platform::BochsSvm));
    }

    #[test]
    fn bad_files_and_sizes_are_named() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        for (overrides, expected) in [
            (
                Overrides { kernel: Some("/no/such/file".into()), ..Overrides::default() },
                "--kernel /no/such/file: No such file",
            ),
            (Overrides { initrd: Some("/".into()), ..Overrides::default() }, "--initrd /: not a file"),
            (Overrides { initrd: Some(empty.path().into()), ..Overrides::default() }, "the file is empty"),
            (Overrides { memory: Some(Size::mib(1)), ..Overrides::default() }, "at least 64M"),
        ] {
            let error = overrides.apply(&mut linux()).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn options_without_effect_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x").unwrap();
        for overrides in [
            Overrides { kernel: Some(file.path().into()), ..Overrides::default() },
            Overrides { append: Some("x".into()), ..Overrides::default() },
            Overrides { memory: Some(Size::mib(128)), ..Overrides::default() },
            Overrides { exit_stats: true, ..Overrides::default() },
        ] {
            let error = overrides.apply(&mut scenario("")).unwrap_err().to_string();
            assert!(error.contains("`sample` has no use for --"), "{error}");
        }
    }
}
