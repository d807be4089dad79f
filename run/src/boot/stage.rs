//! Collecting the files that a scenario boots in one folder, each under its module name.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::boot::image;
use crate::boot::overrides::{APPEND, INITRD_ROM, KERNEL_ROM};
use crate::boot::product::Products;
use crate::error::{Error, Result};
use crate::host::command::checked;
use crate::machine::{Firmware, Medium};
use crate::repository;
use crate::scenario::{Boot, CONFIG, Scenario, config};

/// Module name of the hypervisor.
const HYPERVISOR: &str = "hypervisor";
/// Module name of init's configuration.
const CONFIG_MODULE: &str = "config";
/// The hypervisor writes its log, and that of all components, to the second serial line.
const HYPERVISOR_OPTIONS: &str = "log=com2";
/// The image in a stage's folder.
pub const IMAGE: &str = "image.iso";

/// A kernel and its modules, by module name, as files of one folder.
#[derive(Debug)]
pub struct Stage {
    /// The folder.
    pub folder: PathBuf,
    /// How the kernel is loaded.
    pub boot: Boot,
    /// The kernel.
    pub kernel: String,
    /// Its command line.
    pub append: String,
    /// Its modules.
    pub modules: Vec<String>,
    /// What the boot loader does in the place of the machine's firmware.
    pub firmware: &'static [&'static str],
}

impl Stage {
    /// Fills an empty folder with everything that a scenario boots.
    pub fn prepare(scenario: &Scenario, products: &Products, folder: &Path) -> Result<Self> {
        repository::create_empty_folder(folder)?;
        for (name, rom) in &scenario.roms {
            rom.stage(&scenario.folder, products, &folder.join(name))
                .map_err(|error| Error::new(format!("ROM `{name}`: {error}")))?;
        }
        match scenario.boot {
            Boot::Linux => Self::linux(scenario, folder),
            Boot::Hypervisor => Self::system(scenario, products, folder),
        }
    }

    fn linux(scenario: &Scenario, folder: &Path) -> Result<Self> {
        if let Some(missing) = [KERNEL_ROM, INITRD_ROM].into_iter().find(|name| !scenario.roms.contains_key(*name)) {
            return Err(Error::new(format!("scenario `{}` boots Linux without a ROM `{missing}`", scenario.name)));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            boot: scenario.boot,
            kernel: KERNEL_ROM.to_owned(),
            append: scenario.options.get(APPEND).cloned().unwrap_or_default(),
            modules: vec![INITRD_ROM.to_owned()],
            firmware: scenario.machine.firmware(),
        })
    }

    fn system(scenario: &Scenario, products: &Products, folder: &Path) -> Result<Self> {
        // Not stripped: the Multiboot header describes this very file's layout.
        repository::copy(products.hypervisor()?, &folder.join(HYPERVISOR))?;
        let mut modules = Vec::new();
        for name in scenario.modules() {
            // Debug information would only have to be copied and mapped; gdb reads the original.
            let destination = folder.join(name);
            checked(
                Command::new("strip").arg("--strip-debug").arg("-o").arg(&destination).arg(products.component(name)?),
            )?;
            modules.push(name.to_owned());
        }
        let config = scenario.folder.join(CONFIG);
        if config.is_file() && !scenario.roms.contains_key(CONFIG_MODULE) {
            let text = config::substitute(&repository::read_text(&config)?, &scenario.options)
                .map_err(|error| Error::new(format!("{}: {error}", config.display())))?;
            repository::write(&folder.join(CONFIG_MODULE), text)?;
            modules.push(CONFIG_MODULE.to_owned());
        }
        modules.extend(scenario.roms.keys().cloned());
        Ok(Self {
            folder: folder.to_path_buf(),
            boot: scenario.boot,
            kernel: HYPERVISOR.to_owned(),
            append: HYPERVISOR_OPTIONS.to_owned(),
            modules,
            firmware: scenario.machine.firmware(),
        })
    }

    /// What a machine boots: the files themselves, or an image of them written for this firmware.
    pub fn medium(&self, image: Option<Firmware>) -> Result<Medium> {
        let Some(firmware) = image else {
            let (kernel, append, modules) = (self.kernel.clone(), self.append.clone(), self.modules.clone());
            return Ok(Medium::Direct { kernel, append, modules });
        };
        image::write(self, &self.folder.join(IMAGE))?;
        Ok(Medium::Image { file: IMAGE.to_owned(), firmware })
    }
}
