//! Capabilities in messages and by delegation: permissions, windows, identity, home-coming portals, removal.

use crate::kit::context::{Handler, Setup};
use crate::kit::domain::Domain;
use crate::kit::object::{self, copy, fresh, fresh_range, remove, semaphore, try_call, try_destroy, up};
use crate::kit::time::poll;
use crate::report::{check, holds};
use crate::sys::hypercall::{Message, call, enter, invoke, simple, status};
use crate::sys::utcb;
use abi::cap::{ObjectType, Perms, Sel, root};
use abi::hypercall::{Delegate, Number};
use abi::message::{CapItem, MAX_CAPS, Received, Tag};
use abi::status::Status;

/// Receive window of the handlers, in their own object spaces.
const WINDOW: u64 = 2000;

/// Sets the receive window to what the words say; or, with a tag label of 1, reports item `words[0]`: selector, info, identity;
/// or, with 2, ups the semaphore at selector `words[0]` and says what came of it; with 3 sends the capability there back.
extern "sysv64" fn receive(message: &mut Message) {
    let word = message.words[0];
    match message.tag.label() {
        0 => utcb::set_window(message.words[0], message.words[1]),
        1 => {
            let item = CapItem {
                sel: utcb::read(word as usize * 3),
                info: utcb::read(word as usize * 3 + 1),
                identity: utcb::read(word as usize * 3 + 2),
            };
            message.words = [item.sel, item.info, item.identity, 0];
        }
        2 => message.words[0] = enter(simple(Number::SmUp, Sel(word))).rax,
        3 => {
            utcb::set_cap(0, CapItem::send(Sel(word), Perms::ALL));
            message.tag = Tag::new(3, 0, 1);
            return;
        }
        _ => {
            // Keeps the items where later messages do not overwrite them.
            for i in 0..message.tag.caps() {
                let item = utcb::cap(i);
                utcb::write(i * 3, item.sel);
                utcb::write(i * 3 + 1, item.info);
                utcb::write(i * 3 + 2, item.identity);
            }
            message.words[0] = message.tag.caps() as u64;
        }
    }
    message.tag = Tag::new(0, 0, 0);
}

struct Receiver {
    _handler: Handler,
    portal: Sel,
}

impl Receiver {
    fn create(setup: Setup) -> Self {
        let handler = Handler::inside(setup, receive);
        let portal = handler.portal(0);
        Self { _handler: handler, portal }
    }

    fn command(&self, label: u32, words: [u64; 4]) -> Result<Message, Status> {
        call(self.portal, Message { id: 0, tag: Tag::new(label, 0, 0), words })
    }

    fn window(&self, base: u64, count: u64) {
        holds("the window is set", self.command(0, [base, count, 0, 0]).is_ok());
    }

    /// Sends items and returns how they arrived.
    fn send<const N: usize>(&self, items: [CapItem; N]) -> [CapItem; N] {
        items.into_iter().enumerate().for_each(|(i, item)| utcb::set_cap(i, item));
        let tag = Tag::new(4, 0, N);
        let count = call(self.portal, Message { id: 0, tag, words: [0; 4] });
        check("items arrive", count.map(|r| r.words[0]), Ok(N as u64));
        core::array::from_fn(|i| match self.command(1, [i as u64, 0, 0, 0]) {
            Ok(reply) => CapItem { sel: reply.words[0], info: reply.words[1], identity: reply.words[2] },
            Err(_) => CapItem::default(),
        })
    }

    fn up(&self, sel: u64) -> Status {
        self.command(2, [sel, 0, 0, 0]).map_or(Status::BadHypercall, |r| status(r.words[0]))
    }
}

/// The topic.
pub fn run() {
    let domain = Domain::create(400);
    for cpu in 0..runtime::sys::physical::information_page().cpu_count as u16 {
        messages(Receiver::create(Setup::on(cpu).inside(domain)), domain);
    }
    come_home();
    full_account();
    domain.destroy();
    delegation();
    removal();
}

fn messages(receiver: Receiver, domain: Domain) {
    let (a, b) = (semaphore(0), semaphore(0));
    let all = CapItem::send(a, Perms::ALL);
    receiver.window(WINDOW, 3);
    let got = receiver.send([all, CapItem::send(b, Perms::SM_UP), all]);
    let at = got.map(CapItem::received);
    let new = |i| Received::New(Sel(WINDOW + i));
    check("items go to the window in order", at, [new(0), new(1), new(2)]);
    let sm = (ObjectType::Sm as u64) << CapItem::TYPE_SHIFT;
    let info = got.map(|item| item.info & 0xffff);
    let full = u64::from(Perms::ALL.bits()) | sm;
    check("with type and permissions", info, [full, u64::from(Perms::SM_UP.bits()) | sm, full]);
    holds("an identity per object", got[0].identity == got[2].identity && got[0].identity != got[1].identity);
    check("they can be used", receiver.up(WINDOW), Status::Success);
    check("and arrive where they belong", poll(a), Ok([0, 1]));
    check("also the weaker one", (receiver.up(WINDOW + 1), poll(b)), (Status::Success, Ok([0, 1])));
    receiver.window(WINDOW, 1);
    let got = receiver.send([CapItem::send(Sel(95), Perms::ALL), CapItem::send(b, Perms::SM_DOWN), all]);
    let at = got.map(CapItem::received);
    check("no capability, new, window full", at, [Received::Nothing, new(0), Received::Nothing]);
    check("the old one is replaced", receiver.up(WINDOW), Status::BadCapability);
    receiver.window(WINDOW, 0);
    check("no window", receiver.send([all])[0].received(), Received::Nothing);
    for base in [Sel::COUNT, u64::MAX, Sel::COUNT - 1] {
        receiver.window(base, 8);
        let got = receiver.send([all, all]).map(CapItem::received);
        let first = if base == Sel::COUNT - 1 { Received::New(Sel(base)) } else { Received::Nothing };
        check("a window beyond the end", got, [first, Received::Nothing]);
    }
    receiver.window(WINDOW, 100);
    let many = receiver.send([all; MAX_CAPS]).map(|item| item.identity != 0);
    check("as many as there may be", many, [true; MAX_CAPS]);
    // Sent back, with the permissions that are left.
    utcb::set_window(fresh_range(1).0, 1);
    let back = receiver.command(3, [WINDOW, 0, 0, 0]);
    check("a reply carries one, too", back.map(|r| r.tag.caps()), Ok(1));
    let item = utcb::cap(0);
    holds("of the same object", item.identity == many_identity(&receiver, all));
    if let Received::New(sel) = item.received() {
        up(sel);
        check("and works", poll(a), Ok([0, 1]));
    }
    utcb::set_window(0, 0);
    let copied = Delegate { from: domain.obj, to: root::OBJ, src: WINDOW, dst: fresh().0, count: 1, rights: 0xff };
    check("delegation back", invoke(copied.encode()).map(|v| v[0]), Ok(1));
    object::destroy(a);
    check(
        "destroyed everywhere",
        (receiver.up(WINDOW), status(enter(simple(Number::SmUp, Sel(copied.dst))).rax)),
        (Status::BadCapability, Status::BadCapability),
    );
    let stale = receiver.send([all])[0].received();
    check("a dead one does not arrive", stale, Received::Nothing);
    object::destroy(b);
}

fn many_identity(receiver: &Receiver, item: CapItem) -> u64 {
    receiver.send([item])[0].identity
}

/// Portals of the receiver's own domain.
fn come_home() {
    let receiver = Receiver::create(Setup::default());
    receiver.window(fresh_range(2).0, 2);
    let own = Handler::create(0, receive);
    let (one, two) = (own.portal(0x1234_5678), own.portal(u64::MAX));
    let weak = copy(one, Perms::PT_CALL);
    let got = receiver.send([one, weak, two].map(|sel| CapItem::send(sel, Perms::ALL)));
    let ids = got.map(CapItem::received);
    check("come home as ids", ids, [Received::Own(0x1234_5678), Received::Own(0x1234_5678), Received::Own(u64::MAX)]);
    holds("with identities", got[0].identity == got[1].identity && got[0].identity != got[2].identity);
    check("and permissions", got[1].info & 0xff, u64::from(Perms::PT_CALL.bits()));
    object::destroy(one);
    let dead = receiver.send([CapItem::send(weak, Perms::ALL)])[0].received();
    check("a dead one does not come home", dead, Received::Nothing);
    remove(weak);
}

/// A receiver whose account cannot pay for a table of capabilities gets nothing, and the sender notices nothing.
fn full_account() {
    let domain = Domain::create(120);
    let receiver = Receiver::create(Setup::default().inside(domain));
    let [quota, used] = object::figures(domain.pd);
    let take = abi::hypercall::CtrlPd::Transfer { to: root::PD, from: domain.pd, pages: quota - used };
    check("the account is emptied", try_call(take.encode()), Ok(()));
    receiver.window(WINDOW + 50_000, 4);
    let sm = semaphore(0);
    let item = CapItem::send(sm, Perms::ALL);
    check("nothing arrives", receiver.send([item])[0].received(), Received::Nothing);
    let [quota, after] = object::figures(domain.pd);
    check("nothing is used", (quota, after), (used, used));
    let delegate = Delegate { from: root::OBJ, to: domain.obj, src: sm.0, dst: 60_000, count: 1, rights: 0xff };
    check("delegation says why", try_call(delegate.encode()), Err(Status::OutOfMemory));
    object::destroy(sm);
    domain.destroy();
}

fn delegation() {
    let sm = semaphore(0);
    // Ranges of eight that do not overlap.
    let dst = fresh_range(16).offset(8);
    let copy_range = |src: Sel, dst: Sel, count, rights| {
        let call = Delegate { from: root::OBJ, to: root::OBJ, src: src.0, dst: dst.0, count, rights };
        invoke(call.encode()).map(|values| values[0])
    };
    check("of one", copy_range(sm, dst, 1, u32::from(Perms::SM_UP.bits())), Ok(1));
    check("permissions only shrink", copy_range(dst, dst.offset(1), 1, 0xff), Ok(1));
    check("so this is not allowed", poll(dst.offset(1)), Err(Status::BadCapability));
    check("nor this", try_destroy(dst.offset(1)), Err(Status::BadCapability));
    check("but this is", try_call(simple(Number::SmUp, dst.offset(1))), Ok(()));
    check("of a range", copy_range(sm, dst, 8, 0xff), Ok(8));
    check("overwriting what was there", poll(dst), Ok([0, 1]));
    check("an empty selector empties", try_call(simple(Number::SmUp, dst.offset(1))), Err(Status::BadCapability));
    check("of nothing", copy_range(sm, dst, 0, 0xff), Ok(0));
    check("beyond the end", copy_range(sm, Sel(Sel::COUNT - 1), 2, 0xff), Err(Status::BadParameter));
    check("far beyond", copy_range(sm, Sel(u64::MAX), 1, 0xff), Err(Status::BadParameter));
    check("a source far beyond", copy_range(Sel(u64::MAX), dst, 1, 0xff), Err(Status::BadParameter));
    check("a source beyond the end is empty", copy_range(Sel(Sel::COUNT), dst, 1, 0xff), Ok(1));
    check("which empties", poll(dst), Err(Status::BadCapability));
    let mut done = 0;
    let mut calls = 0;
    while let Ok(step @ 1..) = copy_range(sm, dst, 1 << 16, 0).map(|step| step.min(1)) {
        done += step;
        calls += 1;
        if calls == 3 {
            break;
        }
    }
    holds("large ranges take several calls", done == 3);
    object::destroy(sm);
}

fn removal() {
    let sm = semaphore(0);
    let other = copy(sm, Perms::ALL);
    remove(sm);
    check("a removed capability", try_call(simple(Number::SmUp, sm)), Err(Status::BadCapability));
    check("is not the object", try_call(simple(Number::SmUp, other)), Ok(()));
    object::destroy(other);
}
