//! `./x image`: write a bootable image of a scenario.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::boot::image;
use crate::boot::overrides::Overrides;
use crate::boot::product::Products;
use crate::boot::stage::Stage;
use crate::error::Result;
use crate::host::packages::{self, Purpose};
use crate::repository;
use crate::scenario::Scenario;

/// Options of `image`.
#[derive(Debug, Args)]
pub struct ImageOptions {
    /// Scenario to put into the image
    #[arg(default_value = "linux")]
    scenario: String,
    /// File to write [default: target/image/SCENARIO.iso]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
}

/// Writes the image and says where it is.
pub fn execute(options: &ImageOptions) -> Result<()> {
    let mut scenario = Scenario::load(&options.scenario)?;
    options.overrides.apply(&mut scenario)?;
    packages::ensure(&std::iter::once(Purpose::Image).chain(scenario.needs()).collect::<Vec<_>>())?;
    let products = Products::build(&[&scenario])?;
    let folder = repository::target().join("image");
    let stage = Stage::prepare(&scenario, &products, &folder.join(&scenario.name))?;
    let default = folder.join(format!("{}.iso", scenario.name));
    let file = options.output.as_deref().unwrap_or(&default);
    image::write(&stage, file)?;
    eprintln!("image: {} ({} MiB, boots from BIOS and UEFI)", file.display(), size_in_mib(file));
    Ok(())
}

fn size_in_mib(file: &Path) -> u64 {
    const MIB: u64 = 1 << 20;
    file.metadata().map_or(0, |metadata| metadata.len().div_ceil(MIB))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        options: ImageOptions,
    }

    #[test]
    fn an_image_has_no_machine() {
        for option in ["--cpus=2", "--machine=qemu-svm"] {
            let error = Command::try_parse_from(["image", "tick", option]).unwrap_err().to_string();
            assert!(error.contains("unexpected argument"), "{error}");
        }
        let command = Command::try_parse_from(["image", "linux", "--memory", "1G"]).unwrap();
        assert_eq!(command.options.scenario, "linux");
    }
}
