//! Every session protocol: clients and servers understand each other, and no message breaks a dispatcher.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests state their expectations tersely")]

#[path = "sessions/loopback.rs"]
mod loopback;
#[path = "sessions/servers.rs"]
mod servers;

use abi::cap::{Perms, Sel};
use abi::message::Tag;
use abi::session::affinity::Affinity;
use abi::session::parent::{Progress, Quota, Response, SessionError};
use abi::session::pd::{Account, AllocError, TransferError};
use abi::session::region_map::{AttachError, Attachment, Fault};
use abi::session::rpc::{Error, Refusal};
use abi::session::wire::{Message, Text};
use abi::session::{
    cpu, cpu_thread, dataspace, io_mem, io_port, irq, log, parent, pd, region_map, report, rm, rom, terminal, timer, vm,
};
use abi::status::Status;
use proptest::prelude::*;

use crate::loopback::{HostBuffer, Loopback, cap};
use crate::servers::Recorder;

#[test]
fn small_calls_travel_in_registers_only() {
    let mut server = Recorder::default();
    let buffer = HostBuffer::default();
    let loopback = Loopback::new(&buffer, |message| {
        assert!(message.tag.is_short());
        let reply = timer::dispatch(&mut server, &buffer, message);
        assert!(reply.tag.is_short());
        reply
    });
    let timer = timer::Client::from(loopback);
    timer.trigger_once(1234).unwrap();
    assert_eq!(timer.elapsed_us().unwrap(), 42);
    drop(timer);
    assert_eq!(server.log, ["trigger_once 1234", "elapsed_us"]);
    assert_eq!(buffer.accesses(), 0);
}

#[test]
fn texts_records_and_capabilities_arrive() {
    let mut server = Recorder { cap_results: vec![Some(cap(9))], ..Recorder::default() };
    let buffer = HostBuffer::default();
    let parent =
        parent::Client::from(Loopback::new(&buffer, |message| parent::dispatch(&mut server, &buffer, message)));
    let affinity = Affinity { space_width: 4, space_height: 2, x: 1, y: 0, width: 2, height: 2 };
    let args = "label=\"a \u{e4}\", ram_quota=8192";
    let result = parent.session(16, "Timer", args, affinity).unwrap().unwrap();
    assert_eq!(result.name().sel, 9);
    let pending = parent.session(17, "ROM", "", Affinity::default()).unwrap();
    assert!(pending.is_none());
    parent.deliver_session_cap(3, &cap(77)).unwrap();
    parent.session_response(4, Response::InsufficientCaps).unwrap();
    assert_eq!(parent.close(5).unwrap(), Progress::Pending);
    drop(parent);
    let session = format!("session 16 Timer {args} {affinity:?}");
    assert_eq!(server.log[0], session);
    assert_eq!(server.log[2..], ["deliver_session_cap 3 77", "session_response 4 InsufficientCaps", "close 5"]);
}

#[test]
fn capabilities_are_sent_with_the_permissions_of_their_kind() {
    let mut server = Recorder::default();
    let buffer = HostBuffer::default();
    let irq = irq::Client::from(Loopback::new(&buffer, |message| irq::dispatch(&mut server, &buffer, message)));
    irq.bind(&cap(5)).unwrap();
    assert_eq!(buffer.sent(), Perms::SM_UP | Perms::SM_DOWN | Perms::DESTROY);
    let rom = rom::Client::from(Loopback::new(&buffer, |_| Message::default()));
    rom.sigh(&cap(5)).unwrap();
    assert_eq!(buffer.sent(), Perms::SM_UP);
}

#[test]
fn typed_errors_arrive() {
    let mut server = Recorder { fail: true, ..Recorder::default() };
    let buffer = HostBuffer::default();
    let pd = pd::Client::from(Loopback::new(&buffer, |message| pd::dispatch(&mut server, &buffer, message)));
    assert_eq!(pd.alloc_ram(4096).err(), Some(Error::Server(AllocError::OutOfCaps)));
    assert_eq!(pd.transfer_ram(&cap(3), 1), Err(Error::Server(TransferError::Exceeded)));
    assert_eq!(pd.account(), Ok(Account { ram_quota: 1, ram_used: 2, cap_quota: 3, cap_used: 4 }));
}

#[test]
fn a_client_survives_every_kind_of_bad_reply() {
    let buffer = HostBuffer::default();
    let answer = |label, words: usize, caps: usize| Message { tag: Tag::new(label, words, caps), words: [7; 4] };
    let call = |reply: Result<Message, Status>| {
        let client = parent::Client::from(Loopback::failing(&buffer, |_| reply));
        client.session_cap(1).err().unwrap()
    };
    assert_eq!(call(Err(Status::Aborted)), Error::Kernel(Status::Aborted));
    assert_eq!(call(Ok(answer(SessionError::Denied as u32, 0, 0))), Error::Server(SessionError::Denied));
    assert_eq!(call(Ok(answer(4711, 0, 0))), Error::BadReply);
    assert_eq!(call(Ok(answer(SessionError::Denied as u32, 1, 0))), Error::BadReply);
    assert_eq!(call(Ok(answer(0, 0, 0))), Error::BadReply, "the capability is missing");
    assert_eq!(call(Ok(answer(Refusal::NoObject as u32, 0, 0))), Error::Refused(Refusal::NoObject));
}

#[test]
fn overlong_texts_are_refused_on_both_sides() {
    let mut server = Recorder::default();
    let buffer = HostBuffer::default();
    let long = "x".repeat(log::LINE_MAX + 1);
    let client = log::Client::from(Loopback::new(&buffer, |_| panic!("nothing must be sent")));
    assert_eq!(client.write(&long), Err(Error::TooLong));
    let words = [log::LINE_MAX as u64 + 1, 0, 0, 0];
    let message = Message { tag: Tag::new(log::Opcode::write as u32, 30, 0), words };
    assert_eq!(log::dispatch(&mut server, &buffer, message), Refusal::Malformed.message());
    let message = Message { tag: Tag::new(99, 0, 0), words };
    assert_eq!(log::dispatch(&mut server, &buffer, message), Refusal::UnknownOpcode.message());
    assert!(server.log.is_empty());
}

#[test]
fn unwanted_capabilities_are_dropped() {
    let mut server = Recorder::default();
    let buffer = HostBuffer::default();
    buffer.fill(&[], &[Sel(1), Sel(2), Sel(3)]);
    for (label, expected) in [(timer::Opcode::elapsed_us as u32, Refusal::Malformed), (99, Refusal::UnknownOpcode)] {
        let before = buffer.received();
        let message = Message { tag: Tag::new(label, 0, 3), words: [0; 4] };
        assert_eq!(timer::dispatch(&mut server, &buffer, message), expected.message());
        assert_eq!(buffer.received() - before, 3, "each must be taken over to be dropped");
    }
}

proptest! {
    #[test]
    fn attachments_and_quotas_round_trip(offset: u64, size: u64, address: u64, rights: u32, ram: u64, caps: u64) {
        let attachment = Attachment { offset, size, address, rights };
        let mut server = Recorder::default();
        let buffer = HostBuffer::default();
        let map = region_map::Client::from(Loopback::new(&buffer, |message| region_map::dispatch(&mut server, &buffer, message)));
        map.attach(&cap(1), attachment).unwrap();
        prop_assert_eq!(map.fault().unwrap(), Some(Fault { address: 0x1000, access: 3 }));
        drop(map);
        prop_assert_eq!(&server.log[0], &format!("attach 1 {attachment:?}"));
        let parent = parent::Client::from(Loopback::new(&buffer, |message| parent::dispatch(&mut server, &buffer, message)));
        let quota = Quota { ram, caps };
        parent.upgrade(20, quota).unwrap();
        drop(parent);
        prop_assert_eq!(&server.log[2], &format!("upgrade 20 {quota:?}"));
    }

    #[test]
    fn lines_round_trip(line in "\\PC{0,58}") {
        let mut server = Recorder::default();
        let buffer = HostBuffer::default();
        let log = log::Client::from(Loopback::new(&buffer, |message| log::dispatch(&mut server, &buffer, message)));
        log.write(&line).unwrap();
        drop(log);
        prop_assert_eq!(&server.log[0], &format!("write {line}"));
    }

    #[test]
    fn no_message_breaks_a_dispatcher(label in prop_oneof![0_u32..20, any::<u32>()], tag_low: u32, registers in prop::array::uniform4(prop_oneof![0_u64..300, any::<u64>()]),
                                      words in prop::collection::vec(any::<u64>(), 0..60), fail: bool) {
        let buffer = HostBuffer::default();
        buffer.fill(&words, &[Sel(1), Sel(2)]);
        let message = Message { tag: Tag(u64::from(label) << 32 | u64::from(tag_low)), words: registers };
        let mut server = Recorder { fail, ..Recorder::default() };
        let server = &mut server;
        timer::dispatch(server, &buffer, message);
        parent::dispatch(server, &buffer, message);
        pd::dispatch(server, &buffer, message);
        region_map::dispatch(server, &buffer, message);
        rm::dispatch(server, &buffer, message);
        cpu::dispatch(server, &buffer, message);
        cpu_thread::dispatch(server, &buffer, message);
        dataspace::dispatch(server, &buffer, message);
        rom::dispatch(server, &buffer, message);
        log::dispatch(server, &buffer, message);
        io_mem::dispatch(server, &buffer, message);
        io_port::dispatch(server, &buffer, message);
        irq::dispatch(server, &buffer, message);
        vm::dispatch(server, &buffer, message);
        terminal::dispatch(server, &buffer, message);
        report::dispatch(server, &buffer, message);
    }

    #[test]
    fn no_reply_breaks_a_client(raw: u64, registers in prop::array::uniform4(any::<u64>()), words in prop::collection::vec(any::<u64>(), 0..60)) {
        let buffer = HostBuffer::default();
        buffer.fill(&words, &[Sel(1)]);
        let reply = Message { tag: Tag(raw), words: registers };
        let _ = parent::Client::from(Loopback::new(&buffer, |_| reply)).session(1, "a", "b", Affinity::default());
        let _ = pd::Client::from(Loopback::new(&buffer, |_| reply)).platform();
        let _ = rom::Client::from(Loopback::new(&buffer, |_| reply)).dataspace();
        let _ = region_map::Client::from(Loopback::new(&buffer, |_| reply)).fault();
    }
}

#[test]
fn error_codes_are_distinct_from_refusals() {
    use abi::session::rpc::Code;
    assert_eq!(AttachError::from_code(Refusal::Malformed as u32), None);
    assert_eq!(AttachError::from_code(0), None);
    assert_eq!(AttachError::from_code(AttachError::Conflict.code()), Some(AttachError::Conflict));
    assert!(Text::<4>::from("12345").is_err());
}
