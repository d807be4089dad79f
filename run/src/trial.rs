//! A trial: one booted run of a scenario against its expectations.

use std::path::Path;

use crate::boot::product::Products;
use crate::boot::stage::Stage;
use crate::error::Error;
use crate::machine::terminal::Terminal;
use crate::machine::{Firmware, Machine};
use crate::scenario::matcher::Matcher;
use crate::scenario::{Boot, Scenario};
use crate::session::end::End;
use crate::session::{Observer, Session, Wish};

/// Why a trial failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// Boots a scenario in `folder` and judges the run. Takes no longer than the scenario's time
/// limit and a few seconds to tidy up.
pub fn run_trial(
    scenario: &Scenario,
    image: Option<Firmware>,
    products: &Products,
    folder: &Path,
) -> Result<(), Failure> {
    let stage = Stage::prepare(scenario, products, folder)?;
    let medium = stage.medium(scenario.machine.medium_firmware(image))?;
    let session = Session::start(&Machine::of(scenario, scenario.time()), &medium, folder)?;
    let mut trial = Trial::new(scenario);
    let end = session.run(&mut trial, Some(scenario.limit()))?;
    trial.judge(&end, scenario)
}

/// An observer that types what the expectations say.
struct Trial {
    matcher: Matcher,
    waits_for_exit: bool,
}

impl Trial {
    fn new(scenario: &Scenario) -> Self {
        Self { matcher: Matcher::new(&scenario.expect, &scenario.fail), waits_for_exit: scenario.exit.is_some() }
    }

    fn wish(&mut self) -> Wish {
        let done = self.matcher.is_complete() && !self.waits_for_exit;
        let input = self.matcher.take_outbox();
        if self.matcher.failure().is_some() || done { Wish::Stop } else { Wish::Send(input) }
    }

    fn judge(&self, end: &End, scenario: &Scenario) -> Result<(), Failure> {
        let fail = |reason: String| Err(Failure(reason));
        if let Some(failure) = self.matcher.failure() {
            return fail(failure.to_owned());
        }
        let code = match end {
            End::Panic(line) => return fail(line.clone()),
            End::Signal(number) => return fail(format!("ended by signal {number}")),
            End::Timeout => {
                let awaited =
                    if self.matcher.is_complete() { "the system's exit".to_owned() } else { self.matcher.awaited() };
                return fail(format!("{} s passed waiting for {awaited}", scenario.timeout));
            }
            End::Stopped => None,
            End::SystemExit(code) => Some(*code),
            End::EmulatorEnded { success: true, .. } if scenario.boot == Boot::Linux => Some(0),
            End::EmulatorEnded { message, .. } => {
                return fail(format!("the machine was switched off or reset before the system ended. {message}"));
            }
        };
        match (code, scenario.exit) {
            _ if !self.matcher.is_complete() => {
                fail(format!("the system ended while waiting for {}", self.matcher.awaited()))
            }
            (Some(code), Some(expected)) if code != expected => {
                fail(format!("the system ended with exit code {code}, expected {expected}"))
            }
            _ => Ok(()),
        }
    }
}

impl Observer for Trial {
    fn terminal(&mut self, terminal: Terminal, output: &[u8]) -> Wish {
        self.matcher.terminal(terminal, output);
        self.wish()
    }

    fn log_line(&mut self, line: &str) -> Wish {
        self.matcher.log_line(line);
        self.wish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Scenario {
        toml::from_str(&format!("summary = 'a'\ntest = true\n{text}")).unwrap()
    }

    fn judge(scenario: &Scenario, lines: &[&str], end: &End) -> Result<(), String> {
        let mut trial = Trial::new(scenario);
        for line in lines {
            trial.log_line(line);
        }
        trial.judge(end, scenario).map_err(|failure| failure.0)
    }

    #[test]
    fn a_trial_without_exit_stops_at_its_last_expectation() {
        let scenario = scenario("expect = [ { log = 'one' }, { log = 'two' } ]");
        let mut trial = Trial::new(&scenario);
        assert_eq!(trial.log_line("one"), Wish::NOTHING);
        assert_eq!(trial.log_line("two"), Wish::Stop);
        assert_eq!(trial.judge(&End::Stopped, &scenario), Ok(()));
    }

    #[test]
    fn a_trial_with_exit_waits_for_it() {
        let scenario = scenario("expect = [ { log = 'one' } ]\nexit = 3");
        let mut trial = Trial::new(&scenario);
        assert_eq!(trial.log_line("one"), Wish::NOTHING);
        assert_eq!(trial.judge(&End::SystemExit(3), &scenario), Ok(()));
        let wrong = trial.judge(&End::SystemExit(0), &scenario).unwrap_err();
        assert_eq!(wrong.0, "the system ended with exit code 0, expected 3");
        assert!(trial.judge(&End::Timeout, &scenario).unwrap_err().0.ends_with("the system's exit"));
    }

    #[test]
    fn ends_before_the_last_expectation_fail() {
        let scenario = scenario("expect = [ { log = 'one' }, { also_log = 'two' } ]\nexit = 0");
        for end in [End::SystemExit(0), End::Timeout, End::EmulatorEnded { success: true, message: String::new() }] {
            assert!(judge(&scenario, &["one"], &end).is_err(), "{end:?}");
        }
        assert_eq!(
            judge(&scenario, &["one"], &End::SystemExit(0)),
            Err("the system ended while waiting for log `two`".into())
        );
        assert_eq!(judge(&scenario, &["two", "one"], &End::SystemExit(0)), Ok(()));
    }

    #[test]
    fn panics_and_unwanted_lines_fail() {
        let scenario = scenario("expect = [ { log = 'one' } ]\nfail = ['BUG']");
        assert!(judge(&scenario, &["one", "BUG: x"], &End::Stopped).is_err());
        assert!(judge(&scenario, &["one"], &End::Panic("[kernel] panic: x".into())).is_err());
        assert_eq!(judge(&scenario, &["one"], &End::Stopped), Ok(()));
    }

    #[test]
    fn bare_linux_ends_by_switching_off() {
        let scenario = scenario("boot = 'linux'\nexit = 0");
        let off = |success| End::EmulatorEnded { success, message: String::new() };
        assert_eq!(judge(&scenario, &[], &off(true)), Ok(()));
        assert!(judge(&scenario, &[], &off(false)).is_err());
    }
}
