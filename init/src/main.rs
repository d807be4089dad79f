//! Init: starts the children that its configuration names.
#![cfg_attr(kilonova, no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

use runtime::Error;
use runtime::env::Env;
use runtime::rom::AttachedRom;
use sandbox::component;
use sandbox::config::Config;

runtime::component!(construct);

fn construct(env: &'static Env) -> Result<(), Error> {
    let rom = AttachedRom::open(env, "config")?;
    let config = Config::parse(&rom.bytes()?).map_err(|error| Error::input(alloc::format!("config: {error}")))?;
    component::launch(env, config)
}
