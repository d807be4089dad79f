//! Children that cannot start, exit, fail, and are started again.

use super::model::*;
use crate::backend::Backend;
use crate::sandbox::Sandbox;
use crate::start::CHILD_COST;
use abi::session::parent::Quota;

#[test]
fn children_that_cannot_start_do_not_concern_others() {
    let mut sandbox = sandbox(
        r#"<start name="poor" caps="10" ram="1M"/> <start name="small" caps="200" ram="4K"/>
           <start name="absent" caps="200" ram="1M"><binary name="missing"/></start>
           <start name="odd" caps="200" ram="1M"><binary name="garbage"/></start>
           <start name="greedy" caps="200" ram="10G"/></config>"#,
    );
    let (ram, caps) = (CHILD_COST.ram, CHILD_COST.caps);
    sandbox.reap();
    let mut log = log(&sandbox);
    assert!(log.remove(2).starts_with("child \"greedy\": RAM quota 10737418240 exceeds what is left"));
    assert_eq!(
        log[..4],
        [
            format!("child \"poor\" not started: cap quota too small, 10 of at least {caps}"),
            format!("child \"small\" not started: RAM quota too small, 4096 of at least {ram}"),
            "child \"absent\" not started: no ROM session \"missing\" (Denied)".to_string(),
            "child \"odd\" not started: binary: not an ELF file".to_string(),
        ]
    );
    assert_eq!(sandbox.backend().state.borrow().started, ["greedy"]);
    assert_eq!(sandbox.children().count(), 1);
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
fn a_child_that_cannot_start_is_tried_again_where_configured() {
    let mut sandbox = sandbox(
        r#"<start name="absent" caps="200" ram="1M" restart="yes"><binary name="missing"/></start>
           <start name="poor" caps="10" ram="1M" restart="yes"/></config>"#,
    );
    for delay in [100, 200, 400] {
        sandbox.reap();
        let now = sandbox.backend().now();
        assert_eq!(sandbox.backend().state.borrow_mut().alarm.take(), Some(now + delay * 1000));
        assert_eq!(sandbox.children().count(), 0);
        sandbox.backend().state.borrow_mut().now += delay * 1000;
        sandbox.reap();
    }
    assert_eq!(sandbox.backend().state.borrow().exits, []);
    for name in ["absent", "poor"] {
        let start = format!("child \"{name}\" not started: ");
        assert_eq!(log(&sandbox).iter().filter(|line| line.starts_with(&start)).count(), 4);
    }
}

#[test]
fn threads_stop_first_and_the_protection_domain_goes_last() {
    let (mut sandbox, client, _) = pair();
    let log = request(&mut sandbox, client, 16, "LOG", TIMER).unwrap().unwrap();
    let cpu = request(&mut sandbox, client, 17, "CPU", TIMER).unwrap().unwrap();
    let later = request(&mut sandbox, client, 18, "LOG", TIMER).unwrap().unwrap();
    let [pd, own_cpu, own_log, binary] = [1, 2, 3, 4].map(|id| sandbox.session_cap(client, id).unwrap());
    sandbox.child_faulted(client);
    sandbox.reap();
    assert_eq!(sandbox.backend().state.borrow().closed, [own_cpu, cpu, later, log, binary, own_log, pd]);
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
