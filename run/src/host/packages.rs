//! Which Debian packages the tool needs for what, and whether they are there.
//!
//! Presence is judged by the file that is used, not by the package database, so that a tool
//! installed by other means counts and non-Debian systems work when they have everything.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::apt;

/// What a package is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Compiling and linking the system.
    Build,
    /// Compiling `core` for ring 0 where rustup does not have the target.
    BuildCore,
    /// Running in QEMU.
    Qemu,
    /// Running in Bochs.
    Bochs,
    /// Writing a bootable image, and booting it from UEFI.
    Image,
    /// Fetching guests.
    Guest,
    /// Checking format and lints of the source code.
    Lint,
    /// Tests that run on the host.
    UnitTest,
}

impl Purpose {
    /// All purposes that an explicit set-up prepares for.
    pub const EVERYDAY: [Purpose; 7] = [
        Purpose::Build,
        Purpose::Qemu,
        Purpose::Bochs,
        Purpose::Image,
        Purpose::Guest,
        Purpose::Lint,
        Purpose::UnitTest,
    ];

    fn describe(self) -> &'static str {
        match self {
            Purpose::Build => "to build the system",
            Purpose::BuildCore => "to build Rust's core library for ring 0",
            Purpose::Qemu => "to run in QEMU",
            Purpose::Bochs => "to run in Bochs",
            Purpose::Image => "to write and boot images",
            Purpose::Guest => "to fetch guests",
            Purpose::Lint => "to check the source code",
            Purpose::UnitTest => "to run tests on the host",
        }
    }
}

/// How to tell that a package is there.
#[derive(Debug, Clone, Copy)]
enum Evidence {
    /// A program in the search path.
    Program(&'static str),
    /// A file at an absolute path.
    File(&'static str),
}

/// A package, what it is needed for, and the file of it that is used.
#[derive(Debug)]
pub struct Package {
    /// Name in Debian.
    pub name: &'static str,
    purpose: Purpose,
    evidence: Evidence,
}

impl Package {
    const fn program(purpose: Purpose, name: &'static str, program: &'static str) -> Self {
        Self { name, purpose, evidence: Evidence::Program(program) }
    }

    const fn file(purpose: Purpose, name: &'static str, path: &'static str) -> Self {
        Self { name, purpose, evidence: Evidence::File(path) }
    }

    /// The file that proves the package's presence, for messages.
    fn evidence(&self) -> &'static str {
        match self.evidence {
            Evidence::Program(name) | Evidence::File(name) => name,
        }
    }
}

/// Debian's rustc, used where rustup has no ring-0 target.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Debian's cargo, used with [`DEBIAN_RUSTC`].
pub const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// Firmware code for booting an image from UEFI.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Initial content of that firmware's variables.
pub const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Firmware for Bochs.
pub const BOCHS_BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
/// Firmware for Bochs that leaves open whether there is VMX.
pub const SEABIOS: &str = "/usr/share/seabios/bios.bin";
/// Video firmware for Bochs, which its BIOS does not start without.
pub const BOCHS_VGA_BIOS: &str = "/usr/share/vgabios/vgabios.bin";

const PACKAGES: &[Package] = &[
    Package::program(Purpose::Build, "gcc", "cc"),
    Package::file(Purpose::Build, "libc6-dev", "/usr/lib/x86_64-linux-gnu/crt1.o"),
    Package::program(Purpose::Build, "lld", "ld.lld"),
    Package::program(Purpose::Build, "binutils", "strip"),
    Package::file(Purpose::BuildCore, "rustc-web", DEBIAN_RUSTC),
    Package::file(Purpose::BuildCore, "cargo-web", DEBIAN_CARGO),
    Package::file(Purpose::BuildCore, "rust-web-src", "/usr/lib/rustlib/src/rust/library/Cargo.lock"),
    Package::program(Purpose::Qemu, "qemu-system-x86", "qemu-system-x86_64"),
    Package::program(Purpose::Bochs, "bochs", "bochs"),
    Package::file(Purpose::Bochs, "bochs-term", "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so"),
    Package::file(Purpose::Bochs, "bochsbios", BOCHS_BIOS),
    Package::file(Purpose::Bochs, "vgabios", BOCHS_VGA_BIOS),
    Package::file(Purpose::Bochs, "seabios", SEABIOS),
    Package::program(Purpose::Bochs, "bsdutils", "script"),
    Package::program(Purpose::Image, "grub-common", "grub-mkrescue"),
    Package::file(Purpose::Image, "grub-pc-bin", "/usr/lib/grub/i386-pc/multiboot2.mod"),
    Package::file(Purpose::Image, "grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi/multiboot2.mod"),
    Package::program(Purpose::Image, "xorriso", "xorriso"),
    Package::program(Purpose::Image, "mtools", "mformat"),
    Package::file(Purpose::Image, "ovmf", OVMF_CODE),
    Package::program(Purpose::Guest, "apt", "apt-get"),
    Package::program(Purpose::Guest, "dpkg", "dpkg-deb"),
    // rustup's toolchains bring their own; these fit Debian's.
    Package::program(Purpose::Lint, "rustfmt-web", "cargo-fmt"),
    Package::program(Purpose::Lint, "rust-web-clippy", "cargo-clippy"),
    // A second opinion on the VMM's ACPI tables.
    Package::program(Purpose::UnitTest, "acpica-tools", "iasl"),
];

/// The file system that packages are looked for in.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    search_path: Vec<PathBuf>,
}

impl Host {
    /// The machine this tool runs on, with the user's search path.
    pub fn this() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut search_path: Vec<_> = std::env::split_paths(&path).collect();
        search_path.push(PathBuf::from("/usr/sbin"));
        Self { root: PathBuf::from("/"), search_path }
    }

    /// Whether a program is in the search path.
    pub fn has_program(&self, name: &str) -> bool {
        self.search_path.iter().any(|folder| is_executable(&self.locate(&folder.join(name))))
    }

    fn has(&self, package: &Package) -> bool {
        match package.evidence {
            Evidence::Program(name) => self.has_program(name),
            Evidence::File(path) => self.locate(Path::new(path)).is_file(),
        }
    }

    fn locate(&self, absolute: &Path) -> PathBuf {
        self.root.join(absolute.strip_prefix("/").unwrap_or(absolute))
    }

    /// The packages that the given purposes need and this machine has not.
    pub fn missing(&self, purposes: &[Purpose]) -> Vec<&'static Package> {
        let needed = PACKAGES.iter().filter(|package| purposes.contains(&package.purpose));
        needed.filter(|package| !self.has(package)).collect()
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    const ANYONE_MAY_EXECUTE: u32 = 0o111;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & ANYONE_MAY_EXECUTE != 0)
}

/// Installs what is missing for the given purposes, saying what and why. Says nothing when
/// nothing is missing.
pub fn ensure(purposes: &[Purpose]) -> Result<()> {
    let host = Host::this();
    let missing = host.missing(purposes);
    if missing.is_empty() {
        return Ok(());
    }
    if !host.has_program("apt-get") {
        return Err(cannot_install(&missing));
    }
    for package in &missing {
        eprintln!(
            "setup: {} is needed {} ({} is missing)",
            package.name,
            package.purpose.describe(),
            package.evidence()
        );
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    apt::install(&names)?;
    match host.missing(purposes) {
        still if still.is_empty() => Ok(()),
        still => Err(cannot_install(&still)),
    }
}

fn cannot_install(missing: &[&Package]) -> Error {
    let list = missing.iter().map(|package| {
        format!("{} (Debian package {}, {})", package.evidence(), package.name, package.purpose.describe())
    });
    Error::new(format!("missing on this system: {}", list.collect::<Vec<_>>().join(", ")))
        .remedy("install them and try again")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(packages: &[&Package]) -> Vec<&'static str> {
        packages.iter().map(|package| package.name).collect()
    }

    fn put(root: &Path, path: &str, mode: u32) {
        let path = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn fresh(root: &Path) -> Host {
        Host { root: root.to_path_buf(), search_path: vec!["/usr/bin".into(), "/bin".into()] }
    }

    #[test]
    fn a_fresh_machine_lacks_everything() {
        let root = tempfile::tempdir().unwrap();
        let host = fresh(root.path());
        assert_eq!(names(&host.missing(&[Purpose::Build])), ["gcc", "libc6-dev", "lld", "binutils"]);
        assert_eq!(names(&host.missing(&[Purpose::BuildCore])), ["rustc-web", "cargo-web", "rust-web-src"]);
        assert_eq!(names(&host.missing(&[Purpose::Qemu])), ["qemu-system-x86"]);
        let all = host.missing(&[&Purpose::EVERYDAY[..], &[Purpose::BuildCore]].concat());
        assert_eq!(all.len(), PACKAGES.len(), "every package belongs to a purpose that set-up knows");
    }

    #[test]
    fn each_package_is_found_by_its_own_evidence() {
        for package in PACKAGES {
            let root = tempfile::tempdir().unwrap();
            let host = fresh(root.path());
            assert!(!host.has(package));
            match package.evidence {
                Evidence::Program(name) => put(root.path(), &format!("/usr/bin/{name}"), 0o755),
                Evidence::File(path) => put(root.path(), path, 0o644),
            }
            assert!(host.has(package), "{}", package.name);
        }
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_missing() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "/usr/bin/qemu-system-x86_64", 0o644);
        assert_eq!(names(&fresh(root.path()).missing(&[Purpose::Qemu])), ["qemu-system-x86"]);
    }

    #[test]
    fn without_apt_the_message_names_file_and_package() {
        let root = tempfile::tempdir().unwrap();
        let text = cannot_install(&fresh(root.path()).missing(&[Purpose::Qemu])).to_string();
        assert!(text.contains("qemu-system-x86_64 (Debian package qemu-system-x86, to run in QEMU)"), "{text}");
    }
}
