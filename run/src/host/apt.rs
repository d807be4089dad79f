//! Debian's package manager: installing packages and fetching package files.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::host::command::{checked, output};
use crate::host::packages::Host;
use crate::repository;

/// Options that keep apt from waiting for an answer, a dead server or another apt for ever.
const BOUNDED: [&str; 4] = [
    "-oDPkg::Lock::Timeout=120",
    "-oAcquire::http::Timeout=30",
    "-oAcquire::https::Timeout=30",
    "-oAcquire::Retries=2",
];

/// Installs packages as root (through sudo where needed), showing apt's progress.
pub fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let mut fresh = false;
    let lists = Lists::default();
    if !packages.iter().all(|package| lists.contain(package)) {
        update()?;
        fresh = true;
    }
    eprintln!("setup: installing {list}");
    let attempt = || checked(as_root()?.args(["install", "-y", "--no-install-recommends"]).args(packages));
    let mut result = attempt();
    if result.is_err() && !fresh {
        // Package lists that have gone stale name files the servers no longer have.
        update()?;
        result = attempt();
    }
    result.map_err(|error| {
        Error::new(error.to_string())
            .remedy(format!("see apt's message above, or install by hand: apt-get install {list}"))
    })
}

/// Package lists: those of this system, or one's own for an architecture that is not this system's, of which nothing is changed then.
#[derive(Debug, Default)]
pub struct Lists {
    /// What apt is told for the latter.
    own: Vec<String>,
}

impl Lists {
    /// Lists for `architecture`, kept in `folder`.
    pub fn of(architecture: &str, folder: &Path) -> Result<Self> {
        for part in ["lists/partial", "archives/partial"] {
            repository::create_folder(&folder.join(part))?;
        }
        let status = folder.join("status");
        if !status.is_file() {
            repository::write(&status, "")?;
        }
        let folder = folder.display();
        let mut own = vec![
            format!("-oAPT::Architecture={architecture}"),
            format!("-oAPT::Architectures::={architecture}"),
            format!("-oDir::State={folder}"),
            format!("-oDir::State::status={folder}/status"),
            format!("-oDir::Cache={folder}"),
            "-oAcquire::Languages=none".to_owned(),
        ];
        own.extend(as_this_user().map(str::to_owned));
        Ok(Self { own })
    }

    /// Fetches the newest files of packages into a folder, and returns their paths in the same
    /// order. Needs no root unless the system's package lists are missing.
    pub fn download(&self, packages: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
        packages.iter().try_for_each(|package| self.know(package))?;
        packages.iter().map(|package| self.download_one(package, folder)).collect()
    }

    fn download_one(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        eprintln!("guest: fetching package {package}");
        // A folder of its own tells which file belongs to which package.
        let own = folder.join(package);
        repository::create_empty_folder(&own)?;
        checked(
            Command::new("apt-get")
                .args(BOUNDED)
                .args(&self.own)
                // Root's apt would warn that its own unprivileged user cannot write here.
                .args(as_this_user())
                .args(["download", package])
                .current_dir(&own),
        )
        .map_err(|error| {
            Error::new(format!("cannot fetch Debian package {package}: {error}"))
                .remedy("check the network, or run `apt-get update` as root")
        })?;
        let file = repository::list(&own)?.pop();
        file.ok_or_else(|| Error::new(format!("apt-get fetched no file for package {package}")))
    }

    /// The packages that the candidate version of a package depends on, without versions.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        self.know(package)?;
        let mut show = Command::new("apt-cache");
        Ok(parse_dependencies(&output(show.args(&self.own).args(["show", "--no-all-versions", package]))?))
    }

    /// Makes sure that a package is in the lists.
    fn know(&self, package: &str) -> Result<()> {
        if self.contain(package) {
            return Ok(());
        }
        if self.own.is_empty() {
            return update();
        }
        eprintln!("guest: fetching the package lists for {package}");
        let fetched = checked(Command::new("apt-get").args(BOUNDED).args(&self.own).arg("update"));
        // One server that is being updated itself spoils nothing if another has the package.
        if self.contain(package) {
            return Ok(());
        }
        fetched.map_err(|error| Error::new(error.to_string()).remedy("check the network and /etc/apt/sources.list"))
    }

    fn contain(&self, package: &str) -> bool {
        let mut show = Command::new("apt-cache");
        output(show.args(&self.own).args(["show", package])).is_ok_and(|text| !text.trim().is_empty())
    }
}

/// For root, whose apt else becomes a user that cannot write to the folders of others.
fn as_this_user() -> Option<&'static str> {
    is_root().then_some("-oAPT::Sandbox::User=root")
}

/// The names in the `Depends` field of a package's record (Debian Policy 7.1); of alternatives,
/// the first.
fn parse_dependencies(record: &str) -> Vec<String> {
    let field = record.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or_default();
    let first_word = |relation: &str| relation.split_whitespace().next().map(str::to_owned);
    field.split(',').filter_map(first_word).collect()
}

fn update() -> Result<()> {
    eprintln!("setup: updating the package lists");
    checked(as_root()?.arg("update"))
        .map_err(|error| Error::new(error.to_string()).remedy("check the network and /etc/apt/sources.list"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `apt-get` with bounded waits, through sudo when this process is not root's.
fn as_root() -> Result<Command> {
    let mut command = if is_root() {
        Command::new("env")
    } else if Host::this().has_program("sudo") {
        eprintln!("setup: apt-get needs root, sudo may ask for your password");
        let mut sudo = Command::new("sudo");
        sudo.arg("env");
        sudo
    } else {
        return Err(
            Error::new("installing packages needs root, and there is no sudo").remedy("run `./x setup` as root")
        );
    };
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(BOUNDED);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_names() {
        let record = "Package: a\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), b | c (>= 1), d\nSize: 1\n";
        assert_eq!(parse_dependencies(record), ["linux-image-6.1.0-56-cloud-amd64", "b", "d"]);
        assert!(parse_dependencies("Package: a\n").is_empty());
    }
}
