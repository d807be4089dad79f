use super::features::VIRTUAL_INTERRUPTS;
use super::vmcb::model::Processor;
use super::world::{EXITCODE_MASK, TLB_CONTROL_SHIFT, code, enter};
use super::*;
use crate::arch::virt;
use crate::ec::State;
use crate::frame::{Kind, RENEW};
use crate::testing;
use abi::state::{EventKind, Injection};
use core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;

const VCPUS: usize = 3;

#[test]
fn instruction_bytes_are_told_where_there_are_any() {
    let (ec, utcb) = (vcpu(), testing::pd(2).alloc(0).unwrap());
    let this = Vmcb::with(ec.frame());
    // Twelve bytes: 0x21 to 0x2c.
    this.0.write(at::INST_BYTES, 0x2726_2524_2322_210c);
    this.0.write(at::INST_BYTES + 1, 0x2c_2b2a_2928);
    let told = |has: Has| {
        features::HAS.store(has.bits(), Relaxed);
        this.save_special(ec, utcb, Mtd::INST_BYTES);
        utcb.read(word::INST_BYTES_LEN)
    };
    assert_eq!(told(Has::NP), 0);
    assert_eq!(told(Has::DECODE_ASSISTS), 12);
    let bytes = [0, 1].map(|word| utcb.read(word::INST_BYTES + word).to_le_bytes());
    assert_eq!(bytes.as_flattened()[..12], (0x21..=0x2c).collect::<Vec<u8>>()[..]);
}

/// Whatever the VMM wishes: #DB, #AC and #MC, the vector in a bit and in the exit code (APM vol. 2, 15.12 and appendix C).
#[test]
fn exceptions_that_could_recur_for_ever_and_machine_checks_exit() {
    let ec = vcpu();
    let this = Vmcb::with(ec.frame());
    for wish in [Controls::empty(), Controls::all()] {
        this.set_controls(wish);
        this.inject(ec.frame(), Injection::NONE.with_interrupt_window().0);
        assert_eq!(this.0.read(at::EXCEPTIONS_3) as u32, 1 << 1 | 1 << 17 | 1 << 18);
    }
    assert!(this.event(0x52).is_none(), "the host's");
    for (code, expected) in [(0x41, Injection::exception(1, None)), (0x51, Injection::exception(17, Some(0)))] {
        assert!(this.event(code).is_none() && this.special(ec.frame(), code).is_none());
        assert_eq!(this.0.read(at::EVENTINJ), expected.0);
    }
}

#[test]
fn what_interrupts_the_host_is_no_event_of_the_guest() {
    let (ec, arrives) = (vcpu(), Injection::event(EventKind::Interrupt, 0x40));
    let this = Vmcb::with(ec.frame());
    for code in [code::INTR, code::NMI, code::SMI, code::INIT] {
        this.0.write(at::EXITINTINFO, arrives.0);
        this.0.write(at::EVENTINJ, 0);
        this.0.write(at::VIRTUAL_INTERRUPT, 0);
        assert!(this.event(code).is_none() && this.special(ec.frame(), code).is_none());
        let kept = this.pending_interrupt().unwrap_or_else(|| this.0.read(at::EVENTINJ));
        assert_eq!(kept, arrives.0, "{code:#x}");
    }
}

#[test]
fn debug_registers_are_kept_as_far_as_an_entry_takes_them() {
    let (ec, utcb) = (vcpu(), testing::pd(2).alloc(0).unwrap());
    let reply = |dr7: u64| {
        (0..4).for_each(|i| utcb.write(word::DR + i, 0xffff_8000_0000_1000 + i as u64));
        utcb.write(word::DR6, u64::MAX);
        utcb.write(word::DR7, dr7);
        virt::load(ec, utcb, Mtd::DR);
        (0..word::DR7 + 1).for_each(|word| utcb.write(word, 0));
        virt::save(ec, utcb, Mtd::DR);
        [word::DR + 3, word::DR6, word::DR7].map(|word| utcb.read(word))
    };
    assert_eq!(reply(u64::MAX), [0xffff_8000_0000_1003, 0xffff_ffff, 0xffff_27ff], "reserved bits are not taken");
    let (cpu, frame) = (testing::cpu(), ec.frame());
    let again = || {
        enter(cpu, frame, 1);
        frame.get(Reg::SpaceGeneration) & RENEW != 0
    };
    assert!(again() && again() && again(), "an entry with breakpoints loads their addresses");
    reply(0xf << 16);
    assert!([again(), again()] == [false; 2], "and one without does not");
    reply(1);
    assert!(again(), "until there is one again");
}

fn vcpu() -> &'static Ec {
    let pd = testing::pd(16);
    let ec: &'static Ec = pd.new_object().unwrap();
    ec.init(pd.alloc(0).unwrap(), None, 0, State::Runnable, Kind::Guest);
    ec.frame().set(Reg::ControlAt, pd.alloc(0).unwrap().virt());
    ec
}

/// A vCPU with nothing in it yet, in the pages of `ec`.
fn renewed(ec: &'static Ec) {
    let (frame, control) = (ec.frame(), ec.frame().get(Reg::ControlAt));
    frame.0.fill(1, 0);
    Page::at_virt(control).fill(1, 0);
    frame.set(Reg::ControlAt, control);
    frame.set(Reg::Kind, Kind::Guest as u64);
    let block = Vmcb::with(frame);
    block.set_controls(Controls::HLT);
    block.0.write(at::N_CR3, control + 1);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A handler's reply, with words made of the number.
    Reply(usize, Mtd, u64),
    /// State is delivered.
    Deliver(usize, Mtd),
    /// An exit that is no event of the vCPU's.
    Interrupted(usize, u64),
    /// The CPU refuses to enter.
    Refuse(usize),
    /// The vCPU is destroyed, and another one gets its pages.
    Replace(usize),
    /// Its guest space loses translations.
    Unmap,
    /// It runs, and changes a field.
    Run(usize, Field, u64),
}

/// Everything but what is outside of the control block and needs more of a CPU than there is here.
fn mtd() -> impl Strategy<Value = Mtd> {
    any::<u32>().prop_map(|bits| Mtd::from_bits_truncate(bits) - (Mtd::XMM | Mtd::XCR0 | Mtd::DEADLINE))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..VCPUS, mtd(), any::<u64>()).prop_map(|(vcpu, mtd, seed)| Op::Reply(vcpu, mtd, seed)),
        2 => (0..VCPUS, mtd()).prop_map(|(vcpu, mtd)| Op::Deliver(vcpu, mtd)),
        1 => (0..VCPUS, prop::sample::select(vec![code::INTR, code::SMI, code::DEBUG, code::VINTR, code::IRET]))
            .prop_map(|(vcpu, code)| Op::Interrupted(vcpu, code)),
        1 => (0..VCPUS).prop_map(Op::Refuse),
        1 => (0..VCPUS).prop_map(Op::Replace),
        1 => Just(Op::Unmap),
        6 => (0..VCPUS, prop::sample::select(virt::field::all().collect::<Vec<_>>()), any::<u64>()).prop_map(|(vcpu, field, value)| Op::Run(vcpu, field, value)),
    ]
}

proptest! {
    /// A CPU that keeps all it may runs each guest with what is in the control block.
    #[test]
    fn what_is_clean_is_what_the_cpu_has_kept(ops in proptest::collection::vec(op(), 1..100), as_virtual: bool) {
        vmcb::KEPT.store(vmcb::group::ALL, Relaxed);
        VIRTUAL_INTERRUPTS.store(as_virtual, Relaxed);
        let (cpu, mut processor) = (testing::cpu(), Processor::default());
        let utcb = testing::pd(2).alloc(0).unwrap();
        let ecs: [_; VCPUS] = std::array::from_fn(|_| vcpu());
        ecs.into_iter().for_each(renewed);
        let (mut generation, mut entered) = (1, [0; VCPUS]);
        for op in ops {
            match op {
                Op::Reply(i, mtd, seed) => {
                    (0..size_of::<abi::state::ArchState>() / 8).for_each(|word| utcb.write(word, seed.rotate_left(word as u32)));
                    virt::load(ecs[i], utcb, mtd);
                }
                Op::Deliver(i, mtd) => {
                    virt::save(ecs[i], utcb, mtd);
                }
                Op::Interrupted(i, code) => {
                    Vmcb::with(ecs[i].frame()).special(ecs[i].frame(), code);
                }
                Op::Refuse(i) => {
                    Vmcb::with(ecs[i].frame()).special(ecs[i].frame(), EXITCODE_MASK);
                }
                Op::Replace(i) => {
                    renewed(ecs[i]);
                    entered[i] = 0;
                }
                Op::Unmap => generation += 1,
                Op::Run(i, field, value) => {
                    let frame = ecs[i].frame();
                    enter(cpu, frame, generation);
                    let this = Vmcb::with(frame);
                    prop_assert_eq!(processor.enter(this.0), Vec::<usize>::new());
                    let flushes = this.0.read(at::ASID_TLB) >> TLB_CONTROL_SHIFT;
                    prop_assert_eq!(this.0.read(at::ASID_TLB) & 0xffff_ffff, frame.get(Reg::Asid));
                    prop_assert!(flushes != flush::KEEP || entered[i] == generation);
                    entered[i] = generation;
                    processor.leave(this.0, field, value);
                    this.left(frame);
                    // The next one, if nothing happens, flushes nothing.
                    enter(cpu, frame, generation);
                    prop_assert_eq!(this.0.read(at::ASID_TLB) >> TLB_CONTROL_SHIFT, flush::KEEP);
                }
            }
        }
    }
}
