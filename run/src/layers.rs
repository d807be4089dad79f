//! The direction of dependencies between the folders of the repository.
//!
//! A package may depend on packages of the folders that [`ALLOWED`] lists for its own folder, and
//! on nothing that has a program: components share libraries, never each other.

/// A package of the workspace as far as the rules care.
#[derive(Debug, Clone)]
pub struct Package {
    /// Name of the package.
    pub name: String,
    /// First component of its folder, e.g. `drivers`.
    pub folder: String,
    /// Whether it has a binary.
    pub has_program: bool,
    /// Names of the workspace packages it depends on, other than for its tests.
    pub dependencies: Vec<String>,
}

/// Which folders a folder may depend on. Its own is listed only where it holds libraries for its own programs.
const ALLOWED: &[(&str, &[&str])] = &[
    ("abi", &[]),
    ("iommu", &[]),
    ("device-models", &[]),
    ("guests", &[]),
    ("run", &[]),
    ("hypervisor", &["abi", "iommu"]),
    // A root task that tests the hypervisor: it runs on it, and is kept beside it.
    ("hypervisor/conformance", &["abi", "runtime"]),
    ("runtime", &["abi", "runtime"]),
    ("core", &["abi", "runtime", "core"]),
    ("init", &["abi", "runtime", "init", "core"]),
    ("vmm", &["abi", "runtime", "device-models"]),
    ("drivers", &["abi", "runtime", "drivers"]),
    ("servers", &["abi", "runtime", "init", "servers"]),
    ("benches", &["abi", "runtime", "benches"]),
];

/// Every dependency that goes the wrong way, as a sentence.
pub fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(folder, _)| *folder == package.folder) else {
            found.push(format!("{} is in `{}`, a folder without a rule", package.name, package.folder));
            continue;
        };
        for name in &package.dependencies {
            let Some(dependency) = packages.iter().find(|other| other.name == *name) else {
                continue;
            };
            if !allowed.contains(&dependency.folder.as_str()) {
                found.push(format!(
                    "{} ({}) must not depend on {name} ({})",
                    package.name, package.folder, dependency.folder
                ));
            } else if dependency.has_program {
                found.push(format!("{} depends on {name}, which is a program", package.name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use cargo_metadata::DependencyKind;

    use super::*;
    use crate::programs::{Workspace, folder};

    fn package(name: &str, folder: &str, has_program: bool, dependencies: &[&str]) -> Package {
        Package {
            name: name.into(),
            folder: folder.into(),
            has_program,
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn sample(extra: Package) -> Vec<Package> {
        vec![
            package("abi", "abi", false, &[]),
            package("runtime", "runtime", false, &["abi"]),
            package("hypervisor", "hypervisor", true, &["abi", "iommu"]),
            package("iommu", "iommu", false, &[]),
            package("device-models", "device-models", false, &[]),
            package("sandbox", "init", false, &["runtime"]),
            package("init", "init", true, &["runtime", "sandbox"]),
            package("vmm", "vmm", true, &["runtime", "device-models"]),
            package("virtio", "drivers", false, &["runtime"]),
            package("uart-driver", "drivers", true, &["runtime", "virtio"]),
            extra,
        ]
    }

    #[test]
    fn the_design_is_accepted() {
        let none: Vec<String> = Vec::new();
        assert_eq!(violations(&sample(package("router", "servers", true, &["abi", "runtime"]))), none);
    }

    #[test]
    fn wrong_directions_are_found() {
        for wrong in [
            package("x", "abi", false, &["runtime"]),
            package("x", "runtime", false, &["device-models"]),
            package("x", "device-models", false, &["runtime"]),
            package("x", "drivers", true, &["vmm"]),
            package("x", "drivers", true, &["uart-driver"]),
            package("x", "servers", true, &["init"]),
            package("x", "core", true, &["hypervisor"]),
            package("x", "hypervisor", false, &["runtime"]),
            package("x", "run", false, &["hypervisor"]),
            package("x", "nowhere", false, &[]),
        ] {
            let found = violations(&sample(wrong.clone()));
            assert_eq!(found.len(), 1, "{wrong:?}: {found:?}");
        }
    }

    /// The folder whose rule holds for a package: the topmost one, unless there is one for the package itself.
    fn rule_folder(folder: &std::path::Path) -> String {
        let whole = folder.to_string_lossy();
        match ALLOWED.iter().find(|(name, _)| *name == whole) {
            Some((name, _)) => (*name).to_owned(),
            None => whole.split('/').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn the_workspace_keeps_the_rules() {
        let workspace = Workspace::load().unwrap();
        let packages: Vec<_> = workspace
            .packages()
            .iter()
            .map(|package| Package {
                name: package.name.to_string(),
                folder: rule_folder(&folder(package)),
                has_program: package.targets.iter().any(|target| target.is_bin()),
                dependencies: package
                    .dependencies
                    .iter()
                    .filter(|dependency| dependency.kind != DependencyKind::Development)
                    .map(|dependency| dependency.name.clone())
                    .collect(),
            })
            .collect();
        let none: Vec<String> = Vec::new();
        assert_eq!(violations(&packages), none);
    }
}
