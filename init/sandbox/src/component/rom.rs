//! ROM sessions that a sandbox serves itself: inline configurations and session requests.

use crate::backend::Shortage;
use abi::session::dataspace::Dataspace;
use abi::session::rom::{self, Rom, RomError};
use abi::session::wire::{AnyObject, Signal, Typed};
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use runtime::capability::{Cap, Capability};
use runtime::dataspace::AttachedRam;
use runtime::entrypoint::{Managed, submit};
use runtime::env::Env;

/// A ROM session.
#[derive(Debug)]
pub struct Served {
    _managed: Managed<Rom>,
    module: Rc<RefCell<Module>>,
}

/// A text, and what of it the client has seen.
#[derive(Debug)]
struct Module {
    env: &'static Env,
    text: String,
    /// What the client looks at: it changes when the client asks for it only.
    buffer: Option<AttachedRam>,
    /// The buffer holds the text.
    is_current: bool,
    sigh: Option<Cap<Signal>>,
}

impl Served {
    /// Serves `text`.
    ///
    /// # Errors
    /// The own account lacks capabilities.
    pub fn new(env: &'static Env, text: &str) -> Result<(Self, Cap<AnyObject>), Shortage> {
        let module = Module { env, text: text.into(), buffer: None, is_current: false, sigh: None };
        let module = Rc::new(RefCell::new(module));
        let managed = env.entrypoint().manage::<Rom, _>(Rc::clone(&module)).map_err(|_| Shortage::Caps)?;
        let cap = managed.cap().clone().cast();
        Ok((Self { _managed: managed, module }, cap))
    }

    /// Replaces the text.
    pub fn update(&self, text: String) {
        let mut module = self.module.borrow_mut();
        if module.text != text {
            module.text = text;
            module.is_current = false;
            module.sigh.iter().for_each(submit);
        }
    }
}

impl Module {
    /// Copies the text into the buffer, zero-padded, if it fits.
    fn fill(&mut self) -> bool {
        let Some(buffer) = self.buffer.as_ref().map(AttachedRam::memory) else {
            return false;
        };
        if self.text.len() > buffer.size() {
            return false;
        }
        let mut padded = core::mem::take(&mut self.text).into_bytes();
        let length = padded.len();
        padded.resize(buffer.size(), 0);
        let written = buffer.write(0, &padded).is_ok();
        padded.truncate(length);
        self.text = String::from_utf8(padded).unwrap_or_default();
        self.is_current = written;
        written
    }
}

impl rom::Server<Capability> for Module {
    fn dataspace(&mut self) -> Result<Typed<Dataspace, Capability>, RomError> {
        if !self.fill() {
            self.buffer = None;
            let size = self.text.len().max(1) as u64;
            self.buffer = Some(self.env.alloc_ram(size).map_err(|_| RomError::OutOfRam)?);
            self.fill();
        }
        self.buffer.as_ref().map(|buffer| buffer.cap().clone()).ok_or(RomError::Empty)
    }

    fn update(&mut self) -> bool {
        self.is_current || self.fill()
    }

    fn sigh(&mut self, sigh: Typed<Signal, Capability>) {
        if !self.is_current {
            submit(&sigh);
        }
        self.sigh = Some(sigh);
    }
}
