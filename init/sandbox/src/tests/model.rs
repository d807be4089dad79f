//! A model of accounts and of a parent, and sandboxes over it.

use crate::backend::{Backend, ChildId, Environment, Shortage};
use crate::config::Config;
use crate::sandbox::Sandbox;
use abi::session::affinity::Affinity;
use abi::session::args::{Args, last_element};
use abi::session::parent::{Progress, Quota, SessionError};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use runtime::requests::Request;

pub(super) const TOTAL: Quota = Quota { ram: 64 << 20, caps: 2000 };

#[derive(Default)]
pub(super) struct State {
    pub(super) own: Quota,
    /// Accounts by the PD session's id.
    pub(super) accounts: BTreeMap<u64, Quota>,
    /// Donations at the parent by session id.
    pub(super) held: BTreeMap<u64, Quota>,
    /// Sessions at the parent that are pending.
    pub(super) pending: Vec<u64>,
    /// Arguments by session id.
    pub(super) args: BTreeMap<u64, String>,
    pub(super) started: Vec<String>,
    pub(super) signals: Vec<u64>,
    pub(super) log: Vec<String>,
    pub(super) exits: Vec<i64>,
    pub(super) now: u64,
    pub(super) alarm: Option<u64>,
    /// Sessions at the parent in the order of their ends.
    pub(super) closed: Vec<u64>,
    /// Requests by server, as published last.
    pub(super) requests: Vec<Request>,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) state: RefCell<State>,
    pub(super) next: Cell<u64>,
}

pub(super) fn fits(amount: Quota, available: Quota) -> Result<Quota, Shortage> {
    let ram = available.ram.checked_sub(amount.ram).ok_or(Shortage::Ram)?;
    let caps = available.caps.checked_sub(amount.caps).ok_or(Shortage::Caps)?;
    Ok(Quota { ram, caps })
}

pub(super) fn sum(a: Quota, b: Quota) -> Quota {
    Quota { ram: a.ram + b.ram, caps: a.caps + b.caps }
}

impl Model {
    pub(super) fn new() -> Self {
        let model = Self { next: Cell::new(100), ..Self::default() };
        model.state.borrow_mut().own = TOTAL;
        model
    }

    pub(super) fn total(&self) -> Quota {
        let state = self.state.borrow();
        state.accounts.values().chain(state.held.values()).fold(state.own, |total, &quota| sum(total, quota))
    }
}

impl Backend for Model {
    type Cap = u64;
    type Signal = u64;
    type Account = u64;
    type Program = ();
    type Rom = bool;

    fn available(&self) -> Quota {
        self.state.borrow().own
    }
    fn adopt(&self, &pd: &u64) -> Option<u64> {
        self.state.borrow_mut().accounts.insert(pd, Quota::default());
        Some(pd)
    }
    fn take(&self, from: &u64, amount: Quota) -> Result<(), Shortage> {
        let mut state = self.state.borrow_mut();
        let account = state.accounts.get_mut(from).unwrap();
        *account = fits(amount, *account)?;
        state.own = sum(state.own, amount);
        Ok(())
    }
    fn give(&self, to: &u64, amount: Quota) -> Result<(), Shortage> {
        let mut state = self.state.borrow_mut();
        state.own = fits(amount, state.own)?;
        let account = state.accounts.get_mut(to).unwrap();
        *account = sum(*account, amount);
        Ok(())
    }
    fn new_session_id(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
    fn open(&self, id: u64, service: &str, args: &str, _: &Affinity) -> Result<Option<u64>, SessionError> {
        if service == "ROM" && last_element(Args(args).label()) == "missing" {
            return Err(SessionError::Denied);
        }
        let mut state = self.state.borrow_mut();
        let quota = Args(args).quota();
        state.own = fits(quota, state.own).map_err(Shortage::own)?;
        state.held.insert(id, quota);
        state.args.insert(id, args.into());
        if service == "Slow" {
            state.pending.push(id);
            return Ok(None);
        }
        Ok(Some(id))
    }
    fn session_cap(&self, id: u64) -> Result<u64, SessionError> {
        if self.state.borrow().pending.contains(&id) { Err(SessionError::StillPending) } else { Ok(id) }
    }
    fn upgrade(&self, id: u64, amount: Quota) -> Result<Progress, Shortage> {
        let mut state = self.state.borrow_mut();
        state.own = fits(amount, state.own)?;
        let held = state.held.get_mut(&id).unwrap();
        *held = sum(*held, amount);
        Ok(Progress::Done)
    }
    fn close(&self, id: u64) -> Progress {
        let mut state = self.state.borrow_mut();
        state.closed.push(id);
        let held = state.held.remove(&id).unwrap();
        let account = state.accounts.remove(&id).unwrap_or_default();
        state.pending.retain(|&pending| pending != id);
        state.own = sum(state.own, sum(held, account));
        Progress::Done
    }
    fn submit(&self, &signal: &u64) {
        self.state.borrow_mut().signals.push(signal);
    }
    fn wake(&self) {}
    fn now(&self) -> u64 {
        self.state.borrow().now
    }
    fn wake_at(&self, time: u64) {
        self.state.borrow_mut().alarm = Some(time);
    }
    fn serve_text(&self, text: &str) -> Result<(bool, u64), Shortage> {
        Ok((text.starts_with("<session_requests"), self.new_session_id()))
    }
    fn update_requests(&self, &is_requests: &bool, requests: &[Request]) {
        assert!(is_requests);
        self.state.borrow_mut().requests = requests.to_vec();
    }
    fn start(&self, _: ChildId, name: &str, environment: &Environment<'_, u64>) -> Result<(), String> {
        let mut state = self.state.borrow_mut();
        if state.args[environment.binary].contains("garbage") {
            return Err("binary: not an ELF file".into());
        }
        state.started.push(name.into());
        Ok(())
    }
    fn exit(&self, value: i64) {
        self.state.borrow_mut().exits.push(value);
    }
    fn log(&self, line: fmt::Arguments<'_>) {
        self.state.borrow_mut().log.push(line.to_string());
    }
}

pub(super) const PREFIX: &str = r#"<config>
  <parent-provides>
    <service name="PD"/> <service name="CPU"/> <service name="LOG"/> <service name="ROM"/> <service name="Slow"/>
  </parent-provides>
  <default-route> <any-service> <parent/> <any-child/> </any-service> </default-route>"#;

pub(super) const CLIENT_AND_SERVER: &str = r#"
  <start name="client" caps="200" ram="1M"> <config a="b"/> </start>
  <start name="server" caps="200" ram="1M"> <provides><service name="Timer"/></provides> </start>
</config>"#;

pub(super) fn sandbox(starts: &str) -> Sandbox<Model> {
    let config = Config::parse(format!("{PREFIX}{starts}").as_bytes()).unwrap();
    let mut sandbox = Sandbox::new(Model::new(), config);
    sandbox.start();
    sandbox
}

pub(super) fn id_of(sandbox: &Sandbox<Model>, name: &str) -> ChildId {
    sandbox.children().find(|(_, child)| child.start.name == name).unwrap().0
}

pub(super) fn log(sandbox: &Sandbox<Model>) -> Vec<String> {
    sandbox.backend().state.borrow().log.clone()
}

pub(super) fn account(sandbox: &Sandbox<Model>, child: ChildId) -> Quota {
    let account = sandbox.children().find(|&(id, _)| id == child).unwrap().1.account.unwrap();
    sandbox.backend().state.borrow().accounts[&account]
}

/// Client, server, and the server's ROM of requests, opened.
pub(super) fn pair() -> (Sandbox<Model>, ChildId, ChildId) {
    let mut sandbox = sandbox(CLIENT_AND_SERVER);
    let (client, server) = (id_of(&sandbox, "client"), id_of(&sandbox, "server"));
    let rom = request(&mut sandbox, server, 20, "ROM", REQUESTS);
    assert!(matches!(rom, Ok(Some(_))));
    (sandbox, client, server)
}

pub(super) fn request(
    sandbox: &mut Sandbox<Model>,
    child: ChildId,
    id: u64,
    service: &str,
    args: &str,
) -> Result<Option<u64>, SessionError> {
    sandbox.request_session(child, id, service, Args(args), &Affinity::default())
}

/// The only request published.
pub(super) fn published(sandbox: &Sandbox<Model>) -> (u64, &'static str) {
    match &sandbox.backend().state.borrow().requests[..] {
        [Request::Create { id, .. }] => (*id, "create"),
        [Request::Upgrade { id, .. }] => (*id, "upgrade"),
        [Request::Close { id }] => (*id, "close"),
        other => panic!("{other:?}"),
    }
}

pub(super) const TIMER: &str = r#"label="a", ram_quota=8K, cap_quota=3"#;
pub(super) const GIFT: Quota = Quota { ram: 8 << 10, caps: 3 };
pub(super) const TINY: Quota = Quota { ram: 100, caps: 0 };
pub(super) const CONFIG: &str = r#"label="config", ram_quota=8K, cap_quota=3"#;
pub(super) const REQUESTS: &str = r#"label="session_requests", ram_quota=8K, cap_quota=3"#;
