//! Running programs of the host.

use std::process::{Command, Output};
use std::time::Duration;

use crate::error::{Error, Result};

/// Runs a command whose output the user sees; an exit status other than 0 is an error.
pub fn checked(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|cause| not_started(command, &cause))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("`{}` failed ({status})", describe(command)))) }
}

/// Runs a command for its standard output; an exit status other than 0 is an error that quotes
/// the last line of standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().map_err(|cause| not_started(command, &cause))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&stderr);
    let reason = stderr.trim().lines().last().unwrap_or("no message").to_owned();
    Err(Error::new(format!("`{}` failed ({status}): {reason}", describe(command))))
}

/// A command that is killed when `limit` has passed.
pub fn bounded(limit: Duration, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(limit.as_secs_f32().to_string()).arg(program);
    command
}

/// The error for a command that could not even be started.
pub fn not_started(command: &Command, cause: &std::io::Error) -> Error {
    Error::new(format!("cannot start `{}`: {cause}", command.get_program().to_string_lossy()))
}

/// The command as the user would type it, without its environment.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_quote_the_command_and_its_last_words() {
        let error = output(Command::new("sh").args(["-c", "echo first >&2; echo last >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit 3") && text.ends_with("last"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = checked(&mut Command::new("no-such-program")).unwrap_err();
        assert!(error.to_string().contains("`no-such-program`"));
    }

    #[test]
    fn a_bounded_command_ends() {
        let status = bounded(Duration::from_secs(60), "cat").stdin(std::process::Stdio::piped()).spawn();
        assert_eq!(status.unwrap().wait().unwrap().code(), Some(0), "cat ends with its input");
        let mut endless = bounded(Duration::from_millis(10), "tail");
        assert_eq!(endless.args(["-f", "/dev/null"]).status().unwrap().code(), Some(124));
    }
}
