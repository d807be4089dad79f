//! From the first instruction to the last line.
//!
//! The lines are those of `bench_stats`.

use crate::asm::{self, LOOP};
use crate::rows;
use abi::cap::{Sel, root};
use abi::hip::{self, Features, Hip};
use abi::hypercall::CreateSm;
use abi::status::Status;
use alloc::vec::Vec;
use bench_stats::{END, FORMAT, HistogramLine, RowLine, Summary, Unit};
use core::fmt;
use runtime::console;
use runtime::sys::physical;

/// Instructions of the loop that tells whether the counter counts instructions.
const CALIBRATION: u64 = 2_000_000;

/// Prints a line.
macro_rules! line {
    ($($argument:tt)*) => { console::write_line(format_args!($($argument)*)) };
}

/// What taking stamps costs, and what is measured in.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    unit: Unit,
    /// Of a stamp of a loop.
    pub stamp: u64,
    /// Of a stamp of an event handler.
    pub handler_stamp: u64,
    /// CPUs.
    pub cpus: u32,
    /// Features of the CPUs.
    pub features: Features,
    /// Port of the UART that the log goes to.
    pub log_port: u16,
}

/// A row: its name, how many instructions of it are user mode's (or a guest's), and what to subtract from each sample.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name.
    pub name: &'static str,
    /// Instructions outside the hypervisor.
    pub user: u64,
    /// Ticks.
    pub overhead: u64,
}

impl Report {
    fn new(information: &Hip) -> Self {
        let unit = Unit::of(asm::calibrate(), CALIBRATION);
        let smallest = || asm::intervals().min().unwrap_or(0);
        asm::loops::nothing();
        let stamp = smallest().saturating_sub(LOOP);
        asm::loops::handler_stamp();
        let handler_stamp = smallest().saturating_sub(LOOP + stamp);
        Self {
            unit,
            stamp,
            handler_stamp,
            cpus: information.cpu_count,
            features: Features::from_bits_truncate(information.features),
            log_port: information.log_port as u16,
        }
    }

    /// Prints a row.
    pub fn row(&self, row: Row, samples: impl Iterator<Item = u64>) {
        let mut samples: Vec<u64> = samples.map(|sample| sample.saturating_sub(row.overhead)).collect();
        let Some(summary) = Summary::of(&mut samples) else {
            return;
        };
        let Self { unit, .. } = *self;
        line!("{}", RowLine { name: row.name, unit, user: row.user, summary });
        line!("{}", HistogramLine { name: row.name, unit, samples: &samples });
    }

    /// Prints why a row is missing.
    pub fn skip(&self, name: &str, reason: impl fmt::Display) {
        line!("skipped name={name} reason={reason}");
    }
}

/// Creates a semaphore.
pub fn semaphore(dst: Sel) -> Result<(), Status> {
    let create = CreateSm { dst, pd: root::PD, count: 0, receiver: Sel::NONE, id: 0 };
    asm::hypercall(create.encode()).map(|_| ())
}

/// Runs on the first thread.
pub fn main(_: u64) -> ! {
    let information = physical::information_page();
    console::open(information.log_port);
    runtime::log::set_sink(|text| line!("{text}"));
    let code = if information.magic == hip::MAGIC && information.version == abi::VERSION {
        measure(information)
    } else {
        line!("error: the hypervisor is of another version");
        1
    };
    line!("[core] system exit: {code}");
    runtime::semaphore::sleep_forever()
}

fn virtualisation(features: Features) -> &'static str {
    if features.contains(Features::SVM) {
        "svm"
    } else if features.contains(Features::VMX) {
        "vmx"
    } else {
        "none"
    }
}

fn measure(information: &'static Hip) -> i32 {
    let report = Report::new(information);
    line!(
        "bench-log version={FORMAT} abi={} unit={} hz={} cpus={} features={:#x} virtualisation={} stamp={} handler-stamp={}",
        abi::VERSION,
        report.unit,
        information.tsc_hz,
        report.cpus,
        information.features,
        virtualisation(report.features),
        report.stamp,
        report.handler_stamp,
    );
    match rows::all(&report) {
        Ok(()) => {
            line!("{END}");
            0
        }
        Err(status) => {
            line!("error: a hypercall failed: {status:?}");
            1
        }
    }
}
