//! Sessions between children and with the parent: routes, donations, answers of strangers.

use super::model::*;
use crate::sandbox::Sandbox;
use abi::session::args::Args;
use abi::session::initial::session_id;
use abi::session::parent::{NoSession, Progress, Response, SessionError, UpgradeError};
use runtime::requests::Request;

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
    assert!(matches!(request(&mut sandbox, client, 16, "ROM", CONFIG), Ok(Some(_))));
    assert_eq!(sandbox.backend().state.borrow().held.len(), held);
    assert!(matches!(request(&mut sandbox, server, 16, "ROM", CONFIG), Ok(Some(_))));
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
fn clients_of_a_dead_server_lose_their_donation() {
    let (mut sandbox, client, server) = pair();
    sandbox.set_session_sigh(client, 7);
    let before = account(&sandbox, client);
    let open = |sandbox: &mut Sandbox<Model>, id| {
        request(sandbox, client, id, "Timer", TIMER).unwrap();
        let request = sandbox.backend().state.borrow().requests.iter().find_map(|request| match request {
            Request::Create { id, .. } => Some(*id),
            _ => None,
        });
        sandbox.deliver_session_cap(server, request.unwrap(), id);
        sandbox.session_cap(client, id).unwrap();
    };
    (20..24).for_each(|id| open(&mut sandbox, id));
    sandbox.upgrade_session(client, 21, TINY).unwrap();
    sandbox.close_session(client, 22).unwrap();
    request(&mut sandbox, client, 16, "Timer", TIMER).unwrap();
    request(&mut sandbox, client, 17, "Timer", TIMER).unwrap();
    sandbox.close_session(client, 17).unwrap();
    sandbox.backend().state.borrow_mut().signals.clear();

    sandbox.child_exited(server, 3);
    assert_eq!(request(&mut sandbox, client, 18, "Timer", TIMER), Err(SessionError::Denied));
    sandbox.reap();
    assert_eq!(sandbox.backend().state.borrow().signals, [7; 4], "one for each operation that was pending");
    // A session that was being made has failed, one that was being closed is closed: their ids are free.
    assert_eq!(sandbox.session_cap(client, 16), Err(SessionError::Denied));
    for id in [16, 17, 22] {
        assert_eq!(sandbox.close_session(client, id), Err(NoSession::NoSession), "{id}");
    }
    for id in [20, 21, 23] {
        assert_eq!(sandbox.session_cap(client, id), Err(SessionError::Denied), "{id}");
        assert_eq!(sandbox.close_session(client, id), Ok(Progress::Done), "{id}");
    }
    let lost = (0..6).fold(TINY, |lost, _| sum(lost, GIFT));
    assert_eq!(sum(account(&sandbox, client), lost), before);
    assert!(log(&sandbox).contains(&"child \"server\" exited with exit value 3".to_string()));
}

#[test]
fn a_server_that_keeps_a_donation_is_named() {
    let (mut sandbox, client, server) = pair();
    request(&mut sandbox, client, 16, "Timer", TIMER).unwrap();
    let (id, _) = published(&sandbox);
    sandbox.deliver_session_cap(server, id, 1);
    let everything = account(&sandbox, server);
    let hoard = format!("ram_quota={}", everything.ram - (5 << 10));
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
fn the_environment_may_come_from_a_sibling() {
    let mut sandbox = sandbox(
        r#"<start name="logger" caps="200" ram="1M"> <provides><service name="LOG"/></provides> </start>
           <start name="app" caps="200" ram="1M">
             <route> <service name="LOG"><child name="logger"/></service> <any-service><parent/></any-service> </route>
           </start></config>"#,
    );
    assert_eq!(sandbox.backend().state.borrow().started, ["logger"]);
    let logger = id_of(&sandbox, "logger");
    request(&mut sandbox, logger, 20, "ROM", REQUESTS).unwrap();
    sandbox.deliver_session_cap(logger, published(&sandbox).0, 77);
    assert_eq!(sandbox.backend().state.borrow().started, ["logger", "app"]);
    let app = id_of(&sandbox, "app");
    assert_eq!(sandbox.session_cap(app, session_id::LOG), Ok(77));
}

const APP_AND_ITS_LOGGER: &str = r#"
  <start name="app" caps="200" ram="1M" restart="yes">
    <route> <service name="LOG"><child name="logger"/></service> <any-service><parent/></any-service> </route>
  </start>
  <start name="logger" caps="200" ram="1M" restart="yes"> <provides><service name="LOG"/></provides> </start>
</config>"#;

/// Lets the logger answer the only request that there is.
fn answer(sandbox: &mut Sandbox<Model>) {
    let logger = id_of(sandbox, "logger");
    request(sandbox, logger, 20, "ROM", REQUESTS).unwrap();
    sandbox.deliver_session_cap(logger, published(sandbox).0, 77);
}

#[test]
fn the_environment_may_come_from_a_sibling_that_starts_later() {
    let mut sandbox = sandbox(APP_AND_ITS_LOGGER);
    assert_eq!(sandbox.backend().state.borrow().started, ["logger"]);
    answer(&mut sandbox);
    assert_eq!(sandbox.backend().state.borrow().started, ["logger", "app"]);
}

#[test]
fn a_child_whose_environment_dies_before_it_is_there_starts_again() {
    let mut sandbox = sandbox(APP_AND_ITS_LOGGER);
    let logger = id_of(&sandbox, "logger");
    sandbox.child_faulted(logger);
    sandbox.reap();
    sandbox.reap();
    assert_eq!(sandbox.children().count(), 0);
    sandbox.backend().state.borrow_mut().now += 100_000;
    sandbox.reap();
    answer(&mut sandbox);
    assert_eq!(sandbox.backend().state.borrow().started, ["logger", "logger", "app"]);
}

#[test]
fn what_the_sandbox_serves_itself_is_paid_for() {
    let (mut sandbox, client, _) = pair();
    let before = account(&sandbox, client);
    for (quota, error) in [
        ("", SessionError::InsufficientRam),
        ("ram_quota=8K, cap_quota=2", SessionError::InsufficientCaps),
        ("ram_quota=7K, cap_quota=3", SessionError::InsufficientRam),
    ] {
        for label in ["config", "session_requests"] {
            let args = format!("label=\"{label}\", {quota}");
            assert_eq!(request(&mut sandbox, client, 16, "ROM", &args), Err(error), "{args}");
        }
    }
    assert_eq!(account(&sandbox, client), before);
    assert!(matches!(request(&mut sandbox, client, 16, "ROM", CONFIG), Ok(Some(_))));
    assert_eq!(sandbox.close_session(client, 16), Ok(Progress::Done));
    assert_eq!(account(&sandbox, client), before);
}

#[test]
fn a_long_configuration_costs_more() {
    let text = "x".repeat(10_000);
    let starts = format!(r#"<start name="client" caps="200" ram="1M"> <config a="{text}"/> </start></config>"#);
    let mut sandbox = sandbox(&starts);
    let client = id_of(&sandbox, "client");
    assert_eq!(request(&mut sandbox, client, 16, "ROM", CONFIG), Err(SessionError::InsufficientRam));
    let args = r#"label="config", ram_quota=24K, cap_quota=3"#;
    assert!(matches!(request(&mut sandbox, client, 16, "ROM", args), Ok(Some(_))));
}
