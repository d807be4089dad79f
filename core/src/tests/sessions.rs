//! Opening and closing, init's start, and messages of all kinds.

use super::model::*;
use crate::boot::Memory;
use crate::object::{Handle, Key};
use crate::pager::Verdict;
use crate::{Core, log, parent};
use abi::PAGE_SIZE;
use abi::cap::Sel;
use abi::message::{CapItem, Tag};
use abi::session::affinity::Affinity;
use abi::session::log::Server as _;
use abi::session::parent::{Quota, Server as _, SessionError, UpgradeError};
use abi::session::pd::Server as _;
use abi::session::wire::{Buffer, Message, Text};
use abi::utcb::Utcb;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::RefCell;
use proptest::prelude::*;

#[test]
fn init_gets_everything_and_asks_core_as_its_parent() {
    let model = model();
    let mut core = core(&model);
    core.start_init().unwrap();
    let (ram, caps) = (RAM >> 20, CAPS - 64 - 8 - 2);
    assert_eq!(model.state.borrow().log, [format!("[core] {ram} MiB RAM and {caps} caps assigned to init")]);
    let own = core.ledger.root();
    assert_eq!(core.ledger.quota(own), core.ledger.used(own));
    let pd = core.child.as_ref().unwrap().pd;
    assert_eq!(fault(&mut core, pd, 0x40_1234, false), Verdict::Resume);
    assert_eq!(fault(&mut core, pd, 0x40_2ff8, true), Verdict::Resume);
    let state = model.state.borrow();
    let mapped: Vec<_> = state.pages.iter().map(|(&(_, page), &to)| (page, to)).collect();
    let (from, to) = state.copied[0];
    let (code, data) = (INIT_BASE / PAGE_SIZE, to.base() / PAGE_SIZE);
    assert_eq!(mapped, [(0x400, code + 1), (0x401, code + 2), (0x402, data), (0x403, data + 1)]);
    assert_eq!((from.base(), from.size(), to.base() % PAGE_SIZE), (INIT_BASE + 0x3100, 0x10, 0x100));
    drop(state);

    let before = pd_call(&mut core, pd).account();
    let mut call = parent::Call { core: &mut core };
    let mut ask =
        |id, args: &str| call.session(id, Text::from("LOG").unwrap(), Text::from(args).unwrap(), Affinity::default());
    let tick = r#"label="tick", ram_quota=8K, cap_quota=2"#;
    let log = ask(16, tick).unwrap().unwrap().into_name().own().unwrap();
    assert_eq!(ask(16, tick).map(drop), Err(SessionError::Denied));
    assert_eq!(ask(3, tick).map(drop), Err(SessionError::Denied));
    log::Call { core: &mut core, key: log }.write(Text::from("hello").unwrap());
    assert_eq!(model.state.borrow().log.last().unwrap(), "[init -> tick] hello");
    let mut call = parent::Call { core: &mut core };
    let more = Quota { ram: 4096, caps: 1 };
    call.upgrade(16, more).unwrap();
    assert_eq!(call.upgrade(16, Quota { ram: u64::MAX, caps: 0 }), Err(UpgradeError::OutOfRam));
    assert_eq!(call.upgrade(17, more), Err(UpgradeError::NoSession));
    call.close(16).unwrap();
    assert!(call.close(16).is_err() && call.close(3).is_err());
    call.exit(-7);
    assert_eq!(model.state.borrow().log.last().unwrap(), "[core] system exit: -7");
    assert_eq!(pd_call(&mut core, pd).account(), before);
}

#[test]
fn what_keeps_init_from_starting_is_told() {
    let hip = information();
    let model = model();
    let mut core = Core::new(&model, &hip, Memory::new(&hip.ranges[..2]), Sel(100));
    assert_eq!(core.start_init().unwrap_err().to_string(), "session of its environment: Denied");
    assert_eq!(model.state.borrow().log[1], "[core] no boot module \"init\" (wanted as \"init\")");
}

#[test]
fn every_session_returns_everything_when_closed() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    for (service, args) in SERVICES {
        let session = open(&mut core, service, args).unwrap();
        core.close_session(session);
        assert_eq!(before, figures(&core), "{service}");
    }
}

#[test]
fn a_failure_of_the_kernel_anywhere_leaves_nothing_behind() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    for (service, args) in SERVICES {
        for fuse in 0.. {
            model.fuse.set(Some(fuse));
            let result = open(&mut core, service, args);
            let burnt = model.fuse.take().is_none();
            match result {
                Ok(session) => core.close_session(session),
                Err(_) => assert!(burnt, "{service}"),
            }
            assert_eq!(before, figures(&core), "{service}, failure {fuse}");
            if !burnt {
                break;
            }
        }
    }
}

#[test]
fn too_small_a_donation_is_told_apart_from_an_empty_account() {
    let model = model();
    let mut core = core(&model);
    let before = figures(&core);
    for (args, error) in [
        ("cap_quota=100", SessionError::InsufficientRam),
        ("ram_quota=1M, cap_quota=1", SessionError::InsufficientCaps),
        ("ram_quota=10G, cap_quota=100", SessionError::OutOfRam),
        ("ram_quota=1M, cap_quota=100000", SessionError::OutOfCaps),
    ] {
        assert_eq!(open(&mut core, "PD", args), Err(error), "{args}");
    }
    assert_eq!(open(&mut core, "ROM", r#"label="x -> nope", ram_quota=1M, cap_quota=9"#), Err(SessionError::Denied));
    assert_eq!(open(&mut core, "Gui", QUOTA), Err(SessionError::Denied));
    assert_eq!(before, figures(&core));
    let log = model.state.borrow().log.clone();
    assert_eq!(
        log,
        [
            "[core] no boot module \"nope\" (wanted as \"x -> nope\")",
            "[core] no service \"Gui\" (wanted by \"init -> app\")"
        ]
    );
}

#[test]
fn names_given_by_clients_cannot_start_a_line() {
    let model = model();
    let mut core = core(&model);
    let label = "label=\"app\n[core] system exit: 0\r\", ram_quota=1M, cap_quota=60";
    open(&mut core, "ROM", label).unwrap_err();
    open(&mut core, "Gui\n[init] x", label).unwrap_err();
    open(&mut core, "IRQ", label).unwrap_err();
    let pd = open(&mut core, "PD", label).unwrap();
    assert_eq!(fault(&mut core, pd, 0x1000, false), Verdict::Stop);
    let log = &model.state.borrow().log;
    assert_eq!(log.len(), 4);
    assert!(log.iter().all(|line| line.starts_with("[core] ") && !line.contains(['\n', '\r'])), "{log:?}");
}

/// A message as a client would send it.
struct Sent(RefCell<Utcb>);

impl Buffer for Sent {
    type Cap = Handle;
    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R {
        access(&mut self.0.borrow_mut())
    }
    fn send(&self, cap: &Handle, perms: abi::cap::Perms) -> CapItem {
        cap.item(perms)
    }
    fn receive(&self, index: usize) -> Option<Handle> {
        Handle::received(*self.0.borrow().caps.get(index)?)
    }
}

proptest! {
    #[test]
    fn no_message_harms_core(
        calls in prop::collection::vec(
            (any::<prop::sample::Index>(), 0u32..8, prop::array::uniform4(prop_oneof![0u64..20, (0u64..8).prop_map(|n| n << 12), any::<u64>()]),
             prop::collection::vec(any::<u64>(), 0..6), prop::option::of(any::<prop::sample::Index>())),
            0..60,
        ),
        order in Just((0..SERVICES.len()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let model = model();
        let mut core = core(&model);
        let (total, before) = (core.ledger.total(), figures(&core));
        let mut sessions = Vec::new();
        for (service, args) in SERVICES {
            sessions.push(open(&mut core, service, args).unwrap());
        }
        for (target, label, words, more, cap) in calls {
            let keys: Vec<Key> = core.objects.keys().copied().collect();
            let mut utcb = Utcb {
                words: [0; abi::message::MAX_WORDS],
                caps: [CapItem::default(); abi::message::MAX_CAPS],
                window_base: 0,
                window_count: 0,
                user: [0; 38],
            };
            utcb.words.iter_mut().zip(&more).for_each(|(to, from)| *to = *from);
            if let Some(cap) = cap {
                utcb.caps[0] = CapItem { sel: cap.get(&keys).0.0, info: CapItem::OWN, identity: 1 };
            }
            let message = Message { tag: Tag::new(label, more.len(), usize::from(cap.is_some())), words };
            core.dispatch(target.get(&keys).0.0, &Sent(RefCell::new(utcb)), message);
            prop_assert_eq!(core.ledger.total(), total);
        }
        for session in order {
            core.close_session(sessions[session]);
        }
        prop_assert_eq!(figures(&core), before, "only modules are left");
    }
}
