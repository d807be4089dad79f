//! Sandboxes over a model of accounts and of a parent: who gets what, in which order, and that nothing gets lost.

use crate::backend::{Backend, ChildId, Environment, Shortage};
use crate::config::Config;
use crate::sandbox::{CHILD_COST, Sandbox};
use abi::session::affinity::Affinity;
use abi::session::args::{Args, last_element};
use abi::session::initial::session_id;
use abi::session::parent::{NoSession, Progress, Quota, Response, SessionError, UpgradeError};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::cell::{Cell, RefCell};
use core::fmt;
use proptest::prelude::*;
use runtime::requests::Request;

const TOTAL: Quota = Quota { ram: 64 << 20, caps: 2000 };

#[derive(Default)]
struct State {
    own: Quota,
    /// Accounts by the PD session's id.
    accounts: BTreeMap<u64, Quota>,
    /// Donations at the parent by session id.
    held: BTreeMap<u64, Quota>,
    /// Sessions at the parent that are pending.
    pending: Vec<u64>,
    /// Arguments by session id.
    args: BTreeMap<u64, String>,
    started: Vec<String>,
    signals: Vec<u64>,
    log: Vec<String>,
    exits: Vec<i64>,
    now: u64,
    alarm: Option<u64>,
    /// Requests by server, as published last.
    requests: Vec<Request>,
}

#[derive(Default)]
struct Model {
    state: RefCell<State>,
    next: Cell<u64>,
}

fn fits(amount: Quota, available: Quota) -> Result<Quota, Shortage> {
    let ram = available.ram.checked_sub(amount.ram).ok_or(Shortage::Ram)?;
    let caps = available.caps.checked_sub(amount.caps).ok_or(Shortage::Caps)?;
    Ok(Quota { ram, caps })
}

fn sum(a: Quota, b: Quota) -> Quota {
    Quota { ram: a.ram + b.ram, caps: a.caps + b.caps }
}

impl Model {
    fn new() -> Self {
        let model = Self { next: Cell::new(100), ..Self::default() };
        model.state.borrow_mut().own = TOTAL;
        model
    }

    fn total(&self) -> Quota {
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

const PREFIX: &str = r#"<config>
  <parent-provides>
    <service name="PD"/> <service name="CPU"/> <service name="LOG"/> <service name="ROM"/> <service name="Slow"/>
  </parent-provides>
  <default-route> <any-service> <parent/> <any-child/> </any-service> </default-route>"#;

const CLIENT_AND_SERVER: &str = r#"
  <start name="client" caps="200" ram="1M"> <config a="b"/> </start>
  <start name="server" caps="200" ram="1M"> <provides><service name="Timer"/></provides> </start>
</config>"#;

fn sandbox(starts: &str) -> Sandbox<Model> {
    let config = Config::parse(format!("{PREFIX}{starts}").as_bytes()).unwrap();
    let mut sandbox = Sandbox::new(Model::new(), config);
    sandbox.start();
    sandbox
}

fn id_of(sandbox: &Sandbox<Model>, name: &str) -> ChildId {
    sandbox.children().find(|(_, child)| child.start.name == name).unwrap().0
}

fn log(sandbox: &Sandbox<Model>) -> Vec<String> {
    sandbox.backend().state.borrow().log.clone()
}

fn account(sandbox: &Sandbox<Model>, child: ChildId) -> Quota {
    let account = sandbox.children().find(|&(id, _)| id == child).unwrap().1.account.unwrap();
    sandbox.backend().state.borrow().accounts[&account]
}

/// Client, server, and the server's ROM of requests, opened.
fn pair() -> (Sandbox<Model>, ChildId, ChildId) {
    let mut sandbox = sandbox(CLIENT_AND_SERVER);
    let (client, server) = (id_of(&sandbox, "client"), id_of(&sandbox, "server"));
    let rom = request(&mut sandbox, server, 20, "ROM", r#"label="session_requests""#);
    assert!(matches!(rom, Ok(Some(_))));
    (sandbox, client, server)
}

fn request(
    sandbox: &mut Sandbox<Model>,
    child: ChildId,
    id: u64,
    service: &str,
    args: &str,
) -> Result<Option<u64>, SessionError> {
    sandbox.request_session(child, id, service, Args(args), &Affinity::default())
}

/// The only request published.
fn published(sandbox: &Sandbox<Model>) -> (u64, &'static str) {
    match &sandbox.backend().state.borrow().requests[..] {
        [Request::Create { id, .. }] => (*id, "create"),
        [Request::Upgrade { id, .. }] => (*id, "upgrade"),
        [Request::Close { id }] => (*id, "close"),
        other => panic!("{other:?}"),
    }
}

const TIMER: &str = r#"label="a", ram_quota=8K, cap_quota=3"#;
const GIFT: Quota = Quota { ram: 8 << 10, caps: 3 };

#[test]
fn a_client_waits_for_a_server_that_starts_later() {
    let (mut sandbox, client, server) = pair();
    let (before, server_before) = (account(&sandbox, client), account(&sandbox, server));
    sandbox.set_session_sigh(client, 7);
    assert_eq!(request(&mut sandbox, client, 16, "Timer", TIMER), Ok(None));
    assert_eq!(sandbox.session_cap(client, 16), Err(SessionError::StillPending));
    assert_eq!(account(&sandbox, server), sum(server_before, GIFT));
    let (id, what) = published(&sandbox);
    assert_eq!(what, "create");
    if let Request::Create { args, .. } = &sandbox.backend().state.borrow().requests[0] {
        assert_eq!(Args(args).label(), "client -> a");
    }
    sandbox.announce(server, "Timer").unwrap();
    sandbox.deliver_session_cap(server, id, 1234);
    assert_eq!(sandbox.backend().state.borrow().signals, [7]);
    assert_eq!(sandbox.session_cap(client, 16), Ok(1234));
    sandbox.deliver_session_cap(server, id, 5);
    assert_eq!(sandbox.session_cap(client, 16), Ok(1234), "a second answer is ignored");

    assert_eq!(sandbox.upgrade_session(client, 16, GIFT), Ok(Progress::Pending));
    assert_eq!(sandbox.session_cap(client, 16), Err(SessionError::StillPending));
    assert_eq!(published(&sandbox), (id, "upgrade"));
    sandbox.session_response(server, id, Response::Ok);
    assert_eq!(account(&sandbox, server), sum(server_before, sum(GIFT, GIFT)));

    assert_eq!(sandbox.close_session(client, 16), Ok(Progress::Pending));
    assert_eq!(published(&sandbox), (id, "close"));
    sandbox.session_response(server, id, Response::Closed);
    assert_eq!((account(&sandbox, client), account(&sandbox, server)), (before, server_before));
    assert_eq!(sandbox.close_session(client, 16), Err(NoSession::NoSession));
    assert!(sandbox.backend().state.borrow().requests.is_empty());
    assert_eq!(sandbox.backend().state.borrow().signals, [7, 7, 7]);
}

#[test]
fn a_refusal_returns_the_donation_and_frees_the_id() {
    let (mut sandbox, client, server) = pair();
    let before = account(&sandbox, client);
    for (response, error) in [
        (Response::Denied, SessionError::Denied),
        (Response::InsufficientRam, SessionError::InsufficientRam),
        (Response::InsufficientCaps, SessionError::InsufficientCaps),
    ] {
        assert_eq!(request(&mut sandbox, client, 16, "Timer", TIMER), Ok(None));
        sandbox.session_response(server, published(&sandbox).0, response);
        assert_eq!(sandbox.session_cap(client, 16), Err(error));
        assert_eq!(account(&sandbox, client), before);
    }
    // The signal is registered late.
    sandbox.set_session_sigh(client, 9);
    assert_eq!(sandbox.backend().state.borrow().signals, [9]);
}

#[test]
fn requests_that_cannot_be_served_cost_nothing() {
    let (mut sandbox, client, _) = pair();
    let before = account(&sandbox, client);
    assert_eq!(request(&mut sandbox, client, 3, "LOG", ""), Err(SessionError::Denied), "reserved id");
    assert_eq!(request(&mut sandbox, client, 16, "Gui", TIMER), Err(SessionError::Denied));
    assert_eq!(request(&mut sandbox, client, 16, "LOG", "ram_quota=1G"), Err(SessionError::OutOfRam));
    assert_eq!(request(&mut sandbox, client, 16, "LOG", "cap_quota=1000"), Err(SessionError::OutOfCaps));
    assert_eq!(request(&mut sandbox, client, 16, "ROM", r#"label="missing", ram_quota=8K"#), Err(SessionError::Denied));
    assert_eq!(account(&sandbox, client), before);
    assert_eq!(log(&sandbox), ["child \"client\": no route to service \"Gui\" (label=\"client -> a\")"]);
    assert_eq!(sandbox.upgrade_session(client, 16, GIFT), Err(UpgradeError::NoSession));
    assert_eq!(sandbox.close_session(client, session_id::LOG), Err(NoSession::NoSession));
}

#[test]
fn the_parent_serves_under_the_prefixed_label() {
    let (mut sandbox, client, _) = pair();
    let before = account(&sandbox, client);
    let cap = request(&mut sandbox, client, 16, "LOG", TIMER).unwrap().unwrap();
    assert_eq!(Args(&sandbox.backend().state.borrow().args[&cap]).label(), "client -> a");
    assert_eq!(request(&mut sandbox, client, 16, "LOG", TIMER), Err(SessionError::Denied), "id in use");
    assert_eq!(sandbox.upgrade_session(client, 16, GIFT), Ok(Progress::Done));
    assert_eq!(sandbox.close_session(client, 16), Ok(Progress::Done));
    assert_eq!(account(&sandbox, client), before);
}

#[test]
fn the_inline_configuration_is_served_and_others_are_routed() {
    let (mut sandbox, client, server) = pair();
    let held = sandbox.backend().state.borrow().held.len();
    assert!(matches!(request(&mut sandbox, client, 16, "ROM", r#"label="config""#), Ok(Some(_))));
    assert_eq!(sandbox.backend().state.borrow().held.len(), held);
    assert!(matches!(request(&mut sandbox, server, 16, "ROM", r#"label="config""#), Ok(Some(_))));
    assert_eq!(sandbox.backend().state.borrow().held.len(), held + 1);
    assert_eq!(sandbox.close_session(client, 16), Ok(Progress::Done));
}

#[test]
fn what_is_pending_at_the_parent_is_pending_here() {
    let (mut sandbox, client, _) = pair();
    assert_eq!(request(&mut sandbox, client, 16, "Slow", TIMER), Ok(None));
    sandbox.parent_answered();
    assert_eq!(sandbox.session_cap(client, 16), Err(SessionError::StillPending));
    let parent = sandbox.backend().state.borrow_mut().pending.pop().unwrap();
    sandbox.parent_answered();
    assert_eq!(sandbox.session_cap(client, 16), Ok(parent));
}

#[test]
fn a_capability_for_a_client_that_left_becomes_a_close() {
    let (mut sandbox, client, server) = pair();
    let server_before = account(&sandbox, server);
    request(&mut sandbox, client, 16, "Timer", TIMER).unwrap();
    let (id, _) = published(&sandbox);
    sandbox.child_faulted(client);
    sandbox.reap();
    sandbox.deliver_session_cap(server, id, 1);
    assert_eq!(published(&sandbox), (id, "close"));
    sandbox.session_response(server, id, Response::Closed);
    assert!(sandbox.backend().state.borrow().requests.is_empty());
    assert_eq!(account(&sandbox, server), server_before);
}

#[test]
fn clients_of_a_dead_server_keep_their_id_and_lose_their_donation() {
    let (mut sandbox, client, server) = pair();
    sandbox.set_session_sigh(client, 7);
    let before = account(&sandbox, client);
    request(&mut sandbox, client, 16, "Timer", TIMER).unwrap();
    sandbox.child_exited(server, 3);
    assert_eq!(request(&mut sandbox, client, 17, "Timer", TIMER), Err(SessionError::Denied));
    sandbox.reap();
    assert_eq!(sandbox.backend().state.borrow().signals, [7]);
    assert_eq!(sandbox.session_cap(client, 16), Err(SessionError::Denied));
    assert_eq!(sandbox.close_session(client, 16), Ok(Progress::Done));
    assert_eq!(sum(account(&sandbox, client), GIFT), before);
    assert!(log(&sandbox).contains(&"child \"server\" exited with exit value 3".to_string()));
}

#[test]
fn a_server_that_keeps_a_donation_is_named() {
    let (mut sandbox, client, server) = pair();
    request(&mut sandbox, client, 16, "Timer", TIMER).unwrap();
    let (id, _) = published(&sandbox);
    sandbox.deliver_session_cap(server, id, 1);
    let everything = account(&sandbox, server);
    let hoard = format!("ram_quota={}", everything.ram - 2048);
    request(&mut sandbox, server, 30, "LOG", &hoard).unwrap();
    sandbox.close_session(client, 16).unwrap();
    sandbox.session_response(server, id, Response::Closed);
    assert_eq!(log(&sandbox), ["child \"server\" does not return the donation of a Timer session"]);
    assert_eq!(sandbox.backend().total(), TOTAL);
}

#[test]
fn strangers_cannot_answer() {
    let (mut sandbox, client, server) = pair();
    request(&mut sandbox, client, 16, "Timer", TIMER).unwrap();
    let (id, _) = published(&sandbox);
    sandbox.deliver_session_cap(client, id, 666);
    sandbox.session_response(client, id, Response::Denied);
    assert_eq!(sandbox.session_cap(client, 16), Err(SessionError::StillPending));
    assert!(sandbox.announce(client, "Timer").is_err());
    assert!(sandbox.announce(server, "LOG").is_err());
}

#[test]
fn children_that_cannot_start_do_not_concern_others() {
    let sandbox = sandbox(
        r#"<start name="poor" caps="10" ram="1M"/> <start name="small" caps="200" ram="4K"/>
           <start name="absent" caps="200" ram="1M"><binary name="missing"/></start>
           <start name="odd" caps="200" ram="1M"><binary name="garbage"/></start>
           <start name="greedy" caps="200" ram="10G"/></config>"#,
    );
    let (ram, caps) = (CHILD_COST.ram, CHILD_COST.caps);
    let log = log(&sandbox);
    assert_eq!(
        log[..4],
        [
            format!("child \"poor\" not started: cap quota too small, 10 of at least {caps}"),
            format!("child \"small\" not started: RAM quota too small, 4096 of at least {ram}"),
            "child \"absent\" not started: no ROM session \"missing\" (Denied)".to_string(),
            "child \"odd\" not started: binary: not an ELF file".to_string(),
        ]
    );
    assert!(log[4].starts_with("child \"greedy\": RAM quota 10737418240 exceeds what is left"));
    assert_eq!(sandbox.backend().state.borrow().started, ["greedy"]);
    assert_eq!(sandbox.backend().total(), TOTAL);
}

#[test]
fn exits_propagate_and_restarts_happen_where_configured() {
    let mut sandbox = sandbox(
        r#"<start name="again" caps="200" ram="1M" restart="yes"/>
           <start name="last" caps="200" ram="1M"><exit propagate="yes"/></start></config>"#,
    );
    let (again, last) = (id_of(&sandbox, "again"), id_of(&sandbox, "last"));
    let free = |sandbox: &Sandbox<Model>| {
        let Quota { ram, caps } = sandbox.backend().available();
        format!("destroyed: {ram} bytes of RAM and {caps} caps are free")
    };
    sandbox.child_exited(again, 0);
    sandbox.child_faulted(again);
    sandbox.reap();
    let with_last_only = log(&sandbox).pop().unwrap();
    sandbox.child_exited(last, -5);
    sandbox.reap();
    let state = sandbox.backend().state.borrow();
    assert_eq!(state.started, ["again", "last", "again"]);
    assert_eq!(state.exits, [-5]);
    assert_eq!(state.log[0], "child \"again\" exited with exit value 0");
    assert_eq!(state.log[1], with_last_only);
    assert_eq!(state.log[2], "child \"last\" exited with exit value -5");
    assert_eq!(state.log[3], format!("child \"last\" {}", free(&sandbox)));
    assert_eq!(sandbox.children().count(), 1);
}

#[test]
fn a_child_that_fails_waits_before_it_is_started_again() {
    let mut sandbox = sandbox(r#"<start name="again" caps="200" ram="1M" restart="yes"/></config>"#);
    let mut free = Vec::new();
    for (life, delay) in [(0, 100), (5, 200), (20_000, 100)] {
        let again = id_of(&sandbox, "again");
        sandbox.backend().state.borrow_mut().now += life * 1000;
        sandbox.child_faulted(again);
        sandbox.reap();
        free.push(log(&sandbox).pop().unwrap());
        let now = sandbox.backend().now();
        assert_eq!(sandbox.backend().state.borrow_mut().alarm.take(), Some(now + delay * 1000));
        sandbox.reap();
        assert_eq!(sandbox.children().count(), 0, "not yet");
        sandbox.backend().state.borrow_mut().now += delay * 1000;
        sandbox.reap();
    }
    free.dedup();
    assert_eq!(free, ["child \"again\" destroyed: 67108864 bytes of RAM and 2000 caps are free"]);
    assert_eq!(sandbox.backend().state.borrow().started, ["again"; 4]);
}

#[test]
fn failures_propagate_where_exits_do() {
    for start in [
        r#"<start name="a" caps="10" ram="1M"><exit propagate="yes"/></start>"#,
        r#"<start name="a" caps="200" ram="1M"><binary name="missing"/><exit propagate="yes"/></start>"#,
        r#"<start name="a" caps="200" ram="1M"><binary name="garbage"/><exit propagate="yes"/></start>"#,
    ] {
        let sandbox = sandbox(&format!("{start}</config>"));
        assert_eq!(sandbox.backend().state.borrow().exits, [1], "{start}");
    }
    let mut sandbox = sandbox(
        r#"<start name="again" caps="200" ram="1M" restart="yes"><exit propagate="yes"/></start>
           <start name="other" caps="200" ram="1M"/>
           <start name="last" caps="200" ram="1M"><exit propagate="yes"/></start></config>"#,
    );
    for (name, exits) in [("again", &[][..]), ("other", &[]), ("last", &[1])] {
        let child = id_of(&sandbox, name);
        sandbox.child_faulted(child);
        assert_eq!(sandbox.backend().state.borrow().exits, exits, "{name}");
    }
}

#[test]
fn a_child_that_needs_more_than_its_budget_has_failed() {
    let sandbox = sandbox(
        r#"<start name="patient" caps="200" ram="1M"/>
           <start name="vital" caps="200" ram="1M"><exit propagate="yes"/></start></config>"#,
    );
    for (name, exits) in [("patient", &[][..]), ("vital", &[1])] {
        sandbox.resource_request(id_of(&sandbox, name), Quota { ram: 0, caps: 6 });
        assert_eq!(sandbox.backend().state.borrow().exits, exits, "{name}");
        let line = format!("child \"{name}\" cannot go on: quota too small by 0 bytes of RAM, 6 caps");
        assert_eq!(log(&sandbox).last(), Some(&line));
    }
}

#[test]
fn the_environment_may_come_from_a_sibling() {
    let mut sandbox = sandbox(
        r#"<start name="logger" caps="200" ram="1M"> <provides><service name="LOG"/></provides> </start>
           <start name="app" caps="200" ram="1M">
             <route> <service name="LOG"><child name="logger"/></service> <any-service><parent/></any-service> </route>
           </start></config>"#,
    );
    assert_eq!(sandbox.backend().state.borrow().started, ["logger"]);
    let logger = id_of(&sandbox, "logger");
    request(&mut sandbox, logger, 20, "ROM", r#"label="session_requests""#).unwrap();
    sandbox.deliver_session_cap(logger, published(&sandbox).0, 77);
    assert_eq!(sandbox.backend().state.borrow().started, ["logger", "app"]);
    let app = id_of(&sandbox, "app");
    assert_eq!(sandbox.session_cap(app, session_id::LOG), Ok(77));
}

/// What a random child does.
#[derive(Clone, Debug)]
enum Op {
    Request(u64, u8, u64),
    Cap(u64),
    Upgrade(u64, u64),
    Close(u64),
    Deliver(u64),
    Respond(u64, u8),
    End(bool),
    Reap,
    ParentAnswers,
}

fn op() -> impl Strategy<Value = Op> {
    let id = 14u64..22;
    prop_oneof![
        4 => (id.clone(), 0u8..5, 0u64..40).prop_map(|(id, service, n)| Op::Request(id, service, n)),
        2 => id.clone().prop_map(Op::Cap),
        1 => (id.clone(), 0u64..20).prop_map(|(id, n)| Op::Upgrade(id, n)),
        2 => id.prop_map(Op::Close),
        3 => (1u64..80).prop_map(Op::Deliver),
        3 => ((1u64..80), 0u8..5).prop_map(|(id, response)| Op::Respond(id, response)),
        1 => any::<bool>().prop_map(Op::End),
        1 => Just(Op::Reap),
        1 => Just(Op::ParentAnswers),
    ]
}

const THREE: &str = r#"
  <start name="a" caps="200" ram="1M" restart="yes"> <provides><service name="Timer"/></provides> <config/> </start>
  <start name="b" caps="200" ram="1M" restart="yes"> <provides><service name="Block"/></provides> </start>
  <start name="c" caps="200" ram="1M"/>
</config>"#;

proptest! {
    #[test]
    fn quota_is_conserved_and_returns(ops in prop::collection::vec((any::<prop::sample::Index>(), op()), 0..150)) {
        let mut sandbox = sandbox(THREE);
        let responses = [Response::Ok, Response::Closed, Response::Denied, Response::InsufficientRam, Response::InsufficientCaps];
        for (child, op) in ops {
            let children: Vec<ChildId> = sandbox.children().map(|(id, _)| id).collect();
            if children.is_empty() {
                break;
            }
            let child = *child.get(&children);
            match op {
                Op::Request(id, service, n) => {
                    let (service, label) = [("Timer", "x"), ("Block", "x"), ("LOG", "x"), ("Slow", "x"), ("ROM", "config")][usize::from(service)];
                    let args = format!("label=\"{label}\", ram_quota={}, cap_quota={n}", n * 1000);
                    let _ = request(&mut sandbox, child, id, service, &args);
                }
                Op::Cap(id) => drop(sandbox.session_cap(child, id)),
                Op::Upgrade(id, n) => drop(sandbox.upgrade_session(child, id, Quota { ram: n * 100, caps: n })),
                Op::Close(id) => drop(sandbox.close_session(child, id)),
                Op::Deliver(id) => sandbox.deliver_session_cap(child, id, id),
                Op::Respond(id, response) => sandbox.session_response(child, id, responses[usize::from(response)]),
                Op::End(fault) => if fault { sandbox.child_faulted(child) } else { sandbox.child_exited(child, 0) },
                Op::Reap => sandbox.reap(),
                Op::ParentAnswers => {
                    sandbox.backend().state.borrow_mut().pending.pop();
                    sandbox.parent_answered();
                }
            }
            prop_assert_eq!(sandbox.backend().total(), TOTAL);
        }
        for (child, _) in sandbox.children().map(|(id, child)| (id, child.phase)).collect::<Vec<_>>() {
            sandbox.end_for_good(child);
        }
        sandbox.reap();
        prop_assert_eq!(sandbox.sessions.len(), 0, "no session outlives both ends");
        prop_assert_eq!(sandbox.backend().state.borrow().own, TOTAL);
        prop_assert_eq!(vec![sandbox.children().count()], [0]);
    }
}

impl Sandbox<Model> {
    /// Ends a child that is not to be started again.
    fn end_for_good(&mut self, child: ChildId) {
        if let Some(child) = self.children.get_mut(&child) {
            child.start.restart = false;
        }
        self.child_faulted(child);
    }
}
