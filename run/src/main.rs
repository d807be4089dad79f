//! The tool behind `./x`: sets up the host, builds the system, boots scenarios, tests everything.

#![forbid(unsafe_code)]
// Tests state what must hold by unwrapping and indexing; a panic is how they fail.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod bench;
mod boot;
mod commands;
mod conformance;
mod error;
#[cfg(test)]
mod features;
mod guest;
#[cfg(test)]
mod homes;
mod host;
#[cfg(test)]
mod layers;
mod machine;
mod programs;
mod repository;
mod scenario;
mod session;
mod toolchain;
mod trial;

use clap::{Parser, Subcommand};

use bench::BenchOptions;
use commands::image::ImageOptions;
use commands::run::RunOptions;
use commands::test::TestOptions;

/// Build, run and test Kilonova
#[derive(Debug, Parser)]
#[command(bin_name = "./x", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Install what the other commands need; each also does so by itself for its own needs
    Setup,
    /// Compile the programs of a scenario, or of all scenarios
    Build {
        /// Scenario
        scenario: Option<String>,
    },
    /// Boot a scenario in an emulator, with its terminal here; lists scenarios without one
    ///
    /// The terminal is the guest's console. Ctrl-A X leaves. Where a scenario has several terminals, Ctrl-A 1, Ctrl-A 2 and
    /// Ctrl-A 3 switch between them; input that is not typed goes to the first. Ctrl-A Ctrl-A types one Ctrl-A. The log of
    /// hypervisor and components is in target/run/SCENARIO/log.txt. The exit status is that of the system.
    Run(RunOptions),
    /// Run the tests: format, lints, documentation, host tests, size limits, costs, booted scenarios
    Test(TestOptions),
    /// Measure what operations cost: a table here, plots in target/bench/report.html
    ///
    /// The emulator counts instructions, so figures repeat exactly. On a real machine boot the image of scenario `bench`,
    /// and give the log of its serial line to --from-log.
    Bench(BenchOptions),
    /// Write a bootable image of a scenario, for BIOS and UEFI
    Image(ImageOptions),
    /// Count lines of code per package
    Loc,
}

fn main() {
    let result = match Arguments::parse().command {
        Subject::Setup => commands::setup::execute().map(|()| 0),
        Subject::Build { scenario } => commands::build::execute(scenario.as_deref()).map(|()| 0),
        Subject::Run(options) => commands::run::execute(&options),
        Subject::Test(options) => commands::test::execute(&options),
        Subject::Bench(options) => bench::execute(&options),
        Subject::Image(options) => commands::image::execute(&options).map(|()| 0),
        Subject::Loc => commands::loc::execute().map(|()| 0),
    };
    let status = result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        1
    });
    std::process::exit(status);
}
