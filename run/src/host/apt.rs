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
    if !packages.iter().all(|package| is_known(package)) {
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

/// Fetches the newest files of packages into a folder, and returns their paths in the same
/// order. Needs no root unless the package lists are missing.
pub fn download(packages: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
    if !packages.iter().all(|package| is_known(package)) {
        update()?;
    }
    let as_this_user = is_root().then_some("-oAPT::Sandbox::User=root");
    let mut files = Vec::new();
    for package in packages {
        eprintln!("guest: fetching package {package}");
        // A folder of its own tells which file belongs to which package.
        let own = folder.join(package);
        repository::create_empty_folder(&own)?;
        checked(
            Command::new("apt-get")
                .args(BOUNDED)
                // Root's apt would warn that its own unprivileged user cannot write here.
                .args(as_this_user)
                .args(["download", package])
                .current_dir(&own),
        )
        .map_err(|error| {
            Error::new(format!("cannot fetch Debian package {package}: {error}"))
                .remedy("check the network, or run `apt-get update` as root")
        })?;
        match repository::list(&own)?.pop() {
            Some(file) => files.push(file),
            None => {
                return Err(Error::new(format!("apt-get fetched no file for package {package}")));
            }
        }
    }
    Ok(files)
}

/// The packages that the candidate version of a package depends on, without versions.
pub fn dependencies(package: &str) -> Result<Vec<String>> {
    if !is_known(package) {
        update()?;
    }
    let record = output(Command::new("apt-cache").args(["show", "--no-all-versions", package]))?;
    Ok(parse_dependencies(&record))
}

/// The names in the `Depends` field of a package's record (Debian Policy 7.1); of alternatives,
/// the first.
fn parse_dependencies(record: &str) -> Vec<String> {
    let field = record.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or_default();
    let first_word = |relation: &str| relation.split_whitespace().next().map(str::to_owned);
    field.split(',').filter_map(first_word).collect()
}

/// Whether the package lists contain a package.
fn is_known(package: &str) -> bool {
    output(Command::new("apt-cache").args(["show", package])).is_ok_and(|text| !text.trim().is_empty())
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
