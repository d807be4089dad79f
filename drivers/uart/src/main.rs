//! UART driver: one Terminal session per 16550 UART, driven by interrupts in both directions.
//!
//! ```xml
//! <config>
//!   <uart name="com1" io_port_base="0x3f8" irq="4" baud="115200"/>
//!   <policy label_prefix="vmm" uart="com1"/>
//! </config>
//! ```
//!
//! Each `<uart>` opens an `IO_PORT` and an IRQ session. A client gets the UART that the best `<policy>` for its label names;
//! a second client of the same UART is denied. Policies are looked at when a session is made.
#![cfg_attr(kilonova, no_std, no_main)]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, missing_docs, reason = "tests state their expectations tersely"))]

extern crate alloc;

mod device;
mod fifo;
mod ns16550;
mod settings;
mod terminal;

use abi::session::terminal::Terminal;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use core::cell::RefCell;
use runtime::rom::AttachedRom;
use runtime::{Env, Error};

use crate::device::Device;
use crate::settings::Settings;
use crate::terminal::TerminalService;

runtime::component!(construct);

fn construct(env: &'static Env) -> Result<(), Error> {
    let config = AttachedRom::open(env, "config")?;
    let settings = Settings::read(&config.text()?)?;
    let mut devices = BTreeMap::new();
    for uart in settings.uarts() {
        let device = Rc::new(RefCell::new(Device::open(env, uart)?));
        Device::handle_interrupts(&device, env)?;
        devices.insert(uart.name.clone(), device);
    }
    env.announce::<Terminal, _>(TerminalService::new(env, config, devices))
}
