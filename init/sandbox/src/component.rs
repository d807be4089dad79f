//! A sandbox in a component: children are protection domains, the parent is the component's own.

mod alarm;
mod loader;
mod parent;
mod rom;

use crate::backend::{Backend, ChildId, Environment, Shortage};
use crate::config::Config;
use crate::sandbox::Sandbox;
use abi::session::affinity::Affinity;
use abi::session::log::OneLine;
use abi::session::parent::{Progress, Quota, SessionError, UpgradeError};
use abi::session::pd::{Pd, TransferError};
use abi::session::rpc::Error as CallError;
use abi::session::wire::{AnyObject, Signal};
use alarm::Alarm;
use alloc::rc::{Rc, Weak};
use alloc::string::{String, ToString};
use core::cell::RefCell;
use core::fmt;
use runtime::Error;
use runtime::capability::Cap;
use runtime::entrypoint::{self, Managed, SignalHandler};
use runtime::env::Env;
use runtime::requests::{self, Request};
use runtime::rpc::{self, Client};
use runtime::sys::tsc;

/// A sandbox and those who call it.
type Shared = RefCell<Sandbox<Component>>;

/// The account of a child.
#[derive(Debug)]
pub struct ChildAccount {
    cap: Cap<Pd>,
    pd: Client<Pd>,
}

/// A running child.
#[derive(Debug)]
pub struct Program {
    _parent: Managed<abi::session::parent::Parent>,
    _faults: SignalHandler,
}

/// A component as the ground of a sandbox.
pub struct Component {
    env: &'static Env,
    sandbox: Weak<Shared>,
    reaper: SignalHandler,
    /// If there are children to be started again.
    alarm: Option<Alarm>,
}

/// Starts the children of a configuration. They are served on the entrypoint from then on, for ever.
///
/// # Errors
/// The account cannot pay for the signal handlers and the alarm.
pub fn launch(env: &'static Env, config: Config) -> Result<(), Error> {
    let slot: Rc<RefCell<Weak<Shared>>> = Rc::default();
    let calls = |what: fn(&mut Sandbox<Component>)| {
        let slot = Rc::clone(&slot);
        env.entrypoint().signal_handler(move |_| {
            if let Some(sandbox) = slot.borrow().upgrade() {
                what(&mut sandbox.borrow_mut());
            }
        })
    };
    let reaper = calls(Sandbox::reap)?;
    let answers = calls(Sandbox::parent_answered)?;
    env.session_sigh(answers.cap())?;
    let restarts = config.starts.iter().any(|start| start.restart);
    let alarm = restarts.then(|| Alarm::new(env, reaper.cap().clone())).transpose()?;
    let sandbox = Rc::new_cyclic(|weak| {
        let component = Component { env, sandbox: weak.clone(), reaper, alarm };
        RefCell::new(Sandbox::new(component, config))
    });
    *slot.borrow_mut() = Rc::downgrade(&sandbox);
    sandbox.borrow_mut().start();
    // Both live as long as the component.
    core::mem::forget((sandbox, answers));
    Ok(())
}

/// Moves RAM, then capabilities; moves the RAM back if the capabilities are missing.
fn transfer(from: &Client<Pd>, to: &Cap<Pd>, back: (&Client<Pd>, &Cap<Pd>), amount: Quota) -> Result<(), Shortage> {
    let done = |result: Result<(), CallError<TransferError>>| result.is_ok();
    if amount.ram > 0 && !done(from.transfer_ram(to, amount.ram)) {
        return Err(Shortage::Ram);
    }
    if amount.caps > 0 && !done(from.transfer_caps(to, amount.caps)) {
        if amount.ram > 0 && !done(back.0.transfer_ram(back.1, amount.ram)) {
            runtime::warning!("{} bytes of RAM quota went the wrong way", amount.ram);
        }
        return Err(Shortage::Caps);
    }
    Ok(())
}

/// The typed error of a call; a call that failed otherwise is a denial.
fn denial(error: CallError<SessionError>) -> SessionError {
    match error {
        CallError::Server(error) => error,
        _ => SessionError::Denied,
    }
}

impl Backend for Component {
    type Cap = Cap<AnyObject>;
    type Signal = Cap<Signal>;
    type Account = ChildAccount;
    type Program = Program;
    type Rom = rom::Served;

    fn available(&self) -> Quota {
        self.env.pd().account().map_or(Quota::default(), |account| Quota {
            ram: account.ram_quota.saturating_sub(account.ram_used),
            caps: account.cap_quota.saturating_sub(account.cap_used),
        })
    }

    fn adopt(&self, pd: &Self::Cap) -> Option<ChildAccount> {
        let cap: Cap<Pd> = pd.clone().cast();
        let pd = rpc::client(&cap);
        pd.ref_account(self.env.pd_cap()).ok()?;
        Some(ChildAccount { cap, pd })
    }

    fn take(&self, from: &ChildAccount, amount: Quota) -> Result<(), Shortage> {
        transfer(&from.pd, self.env.pd_cap(), (self.env.pd(), &from.cap), amount)
    }

    fn give(&self, to: &ChildAccount, amount: Quota) -> Result<(), Shortage> {
        transfer(self.env.pd(), &to.cap, (&to.pd, self.env.pd_cap()), amount)
    }

    fn new_session_id(&self) -> u64 {
        self.env.new_session_id()
    }

    fn open(&self, id: u64, service: &str, args: &str, affinity: &Affinity) -> Result<Option<Self::Cap>, SessionError> {
        self.env.parent().session(id, service, args, *affinity).map_err(denial)
    }

    fn session_cap(&self, id: u64) -> Result<Self::Cap, SessionError> {
        self.env.parent().session_cap(id).map_err(denial)
    }

    fn upgrade(&self, id: u64, amount: Quota) -> Result<Progress, Shortage> {
        self.env.parent().upgrade(id, amount).map_err(|error| match error {
            CallError::Server(UpgradeError::OutOfCaps) => Shortage::Caps,
            _ => Shortage::Ram,
        })
    }

    fn close(&self, id: u64) -> Progress {
        // What does not exist is closed.
        self.env.parent().close(id).unwrap_or(Progress::Done)
    }

    fn submit(&self, signal: &Cap<Signal>) {
        entrypoint::submit(signal);
    }

    fn wake(&self) {
        entrypoint::submit(self.reaper.cap());
    }

    fn now(&self) -> u64 {
        tsc::to_us(tsc::now())
    }

    fn wake_at(&self, time: u64) {
        if let Some(alarm) = &self.alarm {
            alarm.set(time);
        }
    }

    fn serve_text(&self, text: &str) -> Result<(rom::Served, Self::Cap), Shortage> {
        rom::Served::new(self.env, text)
    }

    fn update_requests(&self, rom: &rom::Served, requests: &[Request]) {
        rom.update(requests::write(requests));
    }

    fn start(&self, child: ChildId, name: &str, environment: &Environment<'_, Self::Cap>) -> Result<Program, String> {
        let words = |error: Error| error.to_string();
        let faults = self.fault_handler(child).map_err(words)?;
        let parent = parent::ChildParent::new(self.sandbox.clone(), child);
        let parent =
            self.env.entrypoint().manage(Rc::new(RefCell::new(parent))).map_err(|status| words(status.into()))?;
        loader::start(self.env, name, environment, parent.cap(), faults.cap())?;
        Ok(Program { _parent: parent, _faults: faults })
    }

    fn exit(&self, value: i64) {
        self.env.exit(value);
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        runtime::log!("{}", OneLine(line));
    }
}

impl Component {
    fn fault_handler(&self, child: ChildId) -> Result<SignalHandler, Error> {
        let sandbox = self.sandbox.clone();
        let handler = self.env.entrypoint().signal_handler(move |_| {
            if let Some(sandbox) = sandbox.upgrade() {
                sandbox.borrow_mut().child_faulted(child);
            }
        });
        Ok(handler?)
    }
}
