//! Whatever children do, quota is conserved, and returns when they have ended.

use super::model::*;
use crate::backend::ChildId;
use crate::sandbox::Sandbox;
use abi::session::parent::{Quota, Response};
use alloc::format;
use alloc::vec::Vec;
use proptest::prelude::*;

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
        prop_assert_eq!(sandbox.children().count(), 0);
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
