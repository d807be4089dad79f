//! How each kind of program is compiled and linked: the only place that knows compiler flags.
//!
//! | kind | target | linked by |
//! |---|---|---|
//! | ring 0 | `x86_64-unknown-none` | the linker script that `hypervisor/build.rs` passes |
//! | bare program | `x86_64-unknown-none` | the linker script that its own `build.rs` passes |
//! | Linux program | the host's own, static | the host's linker |
//! | component | the host's own `x86_64-unknown-linux-gnu` with its stock `std`, freestanding | `ld.lld` without libc and start files |

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::host::command::{bounded, checked, output};
use crate::host::packages::{self, DEBIAN_CARGO, DEBIAN_RUSTC, Host, Purpose};
use crate::programs::Program;
use crate::repository;

const RING0_TARGET: &str = "x86_64-unknown-none";
const COMPONENT_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Compiler flags of ring 0. The memory layout is the package's own business.
const RING0_FLAGS: &[&str] = &["-Clinker=ld.lld", "-Crelocation-model=static"];

/// Compiler flags of components: a static ELF file that `ld.lld` links directly, so that neither
/// the host's libc nor its start files get in. `no_std` components and those with `std` are linked alike.
const COMPONENT_FLAGS: &[&str] = &[
    "-Clinker=ld.lld",
    "-Clinker-flavor=ld",
    "-Crelocation-model=static",
    "-Ctarget-feature=+crt-static",
    "-Cpanic=abort",
    // Relative to the root of the workspace, where cargo runs the compiler for its members.
    "-Clink-arg=-Truntime/component.ld",
    "--cfg=kilonova",
];

/// Compiler flags of programs that run in a Linux guest, which has no libraries.
const LINUX_FLAGS: &[&str] = &["-Ctarget-feature=+crt-static"];

/// How long rustup may take to fetch the ring-0 target (about 10 MiB).
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// A way to compile one kind of program.
#[derive(Debug)]
pub struct Toolchain {
    cargo: &'static str,
    environment: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
    target: &'static str,
    flags: &'static [&'static str],
    target_folder: &'static str,
}

impl Toolchain {
    /// For components.
    pub fn component() -> Self {
        Self {
            cargo: "cargo",
            environment: &[],
            arguments: &[],
            target: COMPONENT_TARGET,
            flags: COMPONENT_FLAGS,
            target_folder: "component",
        }
    }

    /// For programs that run in a Linux guest.
    pub fn linux() -> Self {
        Self {
            cargo: "cargo",
            environment: &[],
            arguments: &[],
            target: COMPONENT_TARGET,
            flags: LINUX_FLAGS,
            target_folder: "linux",
        }
    }

    /// For ring 0 and for bare machines: rustup's precompiled `core` where it can be had, else Debian's compiler and sources.
    pub fn ring0() -> Result<Self> {
        if has_ring0_target() || rustup_adds_ring0_target() {
            return Ok(Self {
                cargo: "cargo",
                environment: &[],
                arguments: &[],
                target: RING0_TARGET,
                flags: RING0_FLAGS,
                target_folder: "hypervisor",
            });
        }
        packages::ensure(&[Purpose::BuildCore])?;
        Ok(Self {
            cargo: DEBIAN_CARGO,
            // `-Z` options are unlocked for this one build of the standard library; the code itself uses none.
            environment: &[("RUSTC", DEBIAN_RUSTC), ("RUSTC_BOOTSTRAP", "1")],
            arguments: &["-Zbuild-std=core,alloc", "-Zbuild-std-features=compiler-builtins-mem"],
            target: RING0_TARGET,
            flags: RING0_FLAGS,
            target_folder: "hypervisor-build-std",
        })
    }

    /// Builds programs in one go, showing cargo's progress, and returns their files in the same order.
    pub fn build(&self, programs: &[Program]) -> Result<Vec<PathBuf>> {
        if programs.is_empty() {
            return Ok(Vec::new());
        }
        checked(&mut self.command(programs)).map_err(|error| {
            let names: Vec<_> = programs.iter().map(|program| program.name.as_str()).collect();
            Error::new(format!("building {} failed", names.join(", "))).remedy(format!("see above ({error})"))
        })?;
        Ok(programs.iter().map(|program| self.product(program)).collect())
    }

    fn command(&self, programs: &[Program]) -> Command {
        let mut command = Command::new(self.cargo);
        command.current_dir(repository::root());
        command.args(["build", "--release", "--target", self.target]).args(self.arguments);
        command.arg("--target-dir").arg(self.target_folder());
        for program in programs {
            command.args(["--package", &program.package, "--bin", &program.name]);
        }
        // With `--target`, these flags do not reach build scripts and procedural macros.
        const SEPARATOR: &str = "\x1f";
        command.env("CARGO_ENCODED_RUSTFLAGS", self.flags.join(SEPARATOR));
        command.envs(self.environment.iter().copied());
        command
    }

    fn product(&self, program: &Program) -> PathBuf {
        self.target_folder().join(self.target).join("release").join(&program.name)
    }

    fn target_folder(&self) -> PathBuf {
        repository::target().join(self.target_folder)
    }
}

/// Whether the compiler in the search path has `core` for ring 0.
fn has_ring0_target() -> bool {
    output(Command::new("rustc").args(["--print", "target-libdir", "--target", RING0_TARGET]))
        .is_ok_and(|folder| PathBuf::from(folder.trim()).is_dir())
}

/// Lets rustup fetch the target. A failure is remembered so that a machine without rustup's
/// servers pays for the attempt once; `cargo clean` forgets it.
fn rustup_adds_ring0_target() -> bool {
    let memo = repository::target().join("rustup-has-no-ring0-target");
    if !Host::this().has_program("rustup") || memo.exists() {
        return false;
    }
    eprintln!("setup: rustup fetches {RING0_TARGET} (at most {} s)", RUSTUP_LIMIT.as_secs());
    let mut command = bounded(RUSTUP_LIMIT, "rustup");
    command.args(["target", "add", RING0_TARGET]).env("RUSTUP_MAX_RETRIES", "1");
    if checked(&mut command).is_ok() && has_ring0_target() {
        return true;
    }
    eprintln!("setup: rustup cannot fetch {RING0_TARGET}; using Debian's compiler and sources for ring 0");
    let remembered = repository::create_folder(&repository::target()).and_then(|()| repository::write(&memo, ""));
    if let Err(error) = remembered {
        eprintln!("setup: {error}");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Program {
        Program { name: name.into(), package: format!("{name}-package") }
    }

    #[test]
    fn one_cargo_call_builds_all_programs() {
        let toolchain = Toolchain::component();
        let command = toolchain.command(&[program("init"), program("tick")]);
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let text = arguments.join(" ");
        assert!(text.contains("--package init-package --bin init"), "{text}");
        assert!(text.contains("--package tick-package --bin tick"), "{text}");
        assert!(text.contains("--target x86_64-unknown-linux-gnu"), "build scripts must not get the flags: {text}");
    }

    #[test]
    fn products_are_where_cargo_puts_them() {
        let toolchain = Toolchain::component();
        assert!(toolchain.product(&program("init")).ends_with("component/x86_64-unknown-linux-gnu/release/init"));
    }
}
