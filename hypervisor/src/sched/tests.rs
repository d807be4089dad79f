use super::*;
use crate::{event, testing};
use abi::event::guest;

fn sc(priority: u64) -> &'static Sc {
    let sc: &'static Sc = testing::pd(1).new_object().unwrap();
    sc.priority.set(priority);
    sc
}

#[test]
fn whoever_blocked_with_an_empty_budget_has_one_when_it_runs_again() {
    let (cpu, sc) = (testing::cpu(), sc(5));
    sc.budget.set(7);
    for (left, then) in [(0, 7), (3, 3)] {
        sc.left.set(left);
        cpu.ready.insert(sc, false);
        assert!(take(cpu, 0).is_some_and(|taken| taken.addr() == sc.addr()));
        assert_eq!((renew(sc), sc.left.get()), (then, then));
    }
}

/// A CPU on which a vCPU of this budget has run until now, which its deadline is. Its timer is not armed: the host has none.
fn at_deadline(budget: u64) -> (&'static Cpu, &'static Ec) {
    let (pd, cpu, sc) = (testing::pd(8), testing::cpu(), sc(5));
    let vcpu: &'static Ec = pd.new_object().unwrap();
    vcpu.init(pd.alloc_filled(0, 0).unwrap(), None, 0, State::Runnable, Kind::Guest);
    sc.left.set(budget);
    cpu.sc.set(Some(sc));
    cpu.armed.set(0);
    cpu.since.set(NOW - RUN);
    set_deadline(cpu, vcpu, NOW);
    (cpu, vcpu)
}
const RUN: u64 = 100;
const NOW: u64 = 1000;

/// What the interrupt of the timer does.
fn fire(cpu: &'static Cpu) {
    crate::sm::expire(cpu, NOW);
    tick(cpu, NOW);
}

#[test]
fn a_deadline_recalls_the_vcpu_that_keeps_the_cpu_at_once_and_once() {
    let (cpu, vcpu) = at_deadline(RUN + 1);
    assert!(event::take_recall(cpu, vcpu.frame()).is_none(), "before it has passed");
    fire(cpu);
    assert!(event::take_recall(cpu, vcpu.frame()).is_some_and(|event| event.number == guest::RECALL));
    fire(cpu);
    assert!(event::take_recall(cpu, vcpu.frame()).is_none());
}

#[test]
fn a_recall_waits_for_whoever_the_same_expiry_lets_run_first() {
    for (priority, waits) in [(4, false), (5, false), (6, true)] {
        let (cpu, vcpu) = at_deadline(RUN + 1);
        let (pd, woken) = (testing::pd(8), sc(priority));
        let (thread, sm): (&'static Ec, &'static crate::sm::Sm) = (pd.new_object().unwrap(), pd.new_object().unwrap());
        thread.init(pd.alloc_filled(0, 0).unwrap(), None, 0, State::Blocked, Kind::Sysret);
        pd.adopt(woken);
        park(woken, thread);
        sm.enqueue(thread);
        cpu.timeouts.insert(thread, NOW);
        fire(cpu);
        assert_eq!(cpu.ready.top(), Some(priority));
        assert_eq!(event::take_recall(cpu, vcpu.frame()).is_none(), waits, "{priority}");
        assert_eq!(vcpu.frame().get(Reg::Recall) == pending::DEADLINE, waits, "{priority}");
    }
}

#[test]
fn a_recall_waits_when_the_budget_ends_with_it() {
    let (cpu, vcpu) = at_deadline(RUN);
    fire(cpu);
    assert!(event::take_recall(cpu, vcpu.frame()).is_none());
    assert_eq!(vcpu.frame().get(Reg::Recall), pending::DEADLINE);
}

#[test]
fn recalls_before_the_event_are_one_recall() {
    let (cpu, vcpu) = at_deadline(RUN + 1);
    let frame = vcpu.frame();
    for _ in 0..2 {
        // The first one tells the CPU of the vCPU.
        assert_eq!([(); 2].map(|()| pending::add(frame, pending::RECALL)), [pending::NONE, pending::RECALL]);
        fire(cpu);
        set_deadline(cpu, vcpu, NOW);
        assert!(event::take_recall(cpu, frame).is_some_and(|event| event.number == guest::RECALL));
        assert!(event::take_recall(cpu, frame).is_none());
    }
}

#[test]
fn a_deadline_that_has_passed_is_withdrawn_by_the_next() {
    let (cpu, vcpu) = at_deadline(RUN + 1);
    fire(cpu);
    set_deadline(cpu, vcpu, NOW + 1);
    assert!(event::take_recall(cpu, vcpu.frame()).is_none());
    fire(cpu);
    assert!(event::take_recall(cpu, vcpu.frame()).is_none());
}

#[test]
fn highest_first_and_in_order_among_equals() {
    let queue = &testing::cpu().ready;
    let all = [3, 127, 3, 64, 3, 0].map(sc);
    for sc in all {
        queue.insert(sc, false);
    }
    queue.insert(sc(3), true);
    queue.remove(all[4]);
    assert_eq!(queue.top(), Some(127));
    let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|sc| sc.priority.get()).collect();
    assert_eq!(order, [127, 64, 3, 3, 3, 0]);
    queue.insert(all[0], false);
    queue.insert(all[2], true);
    assert!(queue.pop().is_some_and(|sc| sc.addr() == all[2].addr()));
}
