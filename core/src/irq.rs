//! IRQ: interrupts. Each line is handed out once; message-signalled ones are as many as the machine has vectors.

use crate::Core;
use crate::account::{AccountError, AccountId};
use crate::isa_lines::Line;
use crate::kernel::Machine;
use crate::object::{Handle, Key, Kind};
use crate::ranges::Range;
use abi::cap::Sel;
use abi::hypercall::IntSource;
use abi::session::args::Args;
use abi::session::irq::{self, BindError, IrqInfo};
use abi::session::wire::{InterruptSemaphore, Kind as _, Typed};
use abi::status::Status;

/// A session.
#[derive(Clone, Copy, Debug)]
pub struct Irq {
    /// What interrupts.
    pub source: IntSource,
    /// Semaphore of the driver.
    pub semaphore: Option<Sel>,
}

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> irq::Server<Handle> for Call<'_, '_, M> {
    fn bind(&mut self, semaphore: Typed<InterruptSemaphore, Handle>) -> Result<IrqInfo, BindError> {
        let source = self.core.irqs.get(&self.key).ok_or(BindError::InUse)?.source;
        let (semaphore, perms) = (semaphore.into_name(), InterruptSemaphore::PERMS);
        if !matches!(semaphore, Handle::Foreign(_, given) if given.contains(perms)) {
            return Err(BindError::InvalidSemaphore);
        }
        let semaphore = self.core.keep(semaphore, perms).map_err(|_| BindError::InvalidSemaphore)?;
        let assigned = self.core.kernel.assign_int(semaphore, source);
        let (address, data) = assigned.map_err(|status| {
            self.core.free_selectors(semaphore, 1);
            match status {
                Status::BadCapability => BindError::InvalidSemaphore,
                Status::Busy => BindError::InUse,
                _ => BindError::NoVector,
            }
        })?;
        let old = self.core.irqs.get_mut(&self.key).and_then(|session| session.semaphore.replace(semaphore));
        if let Some(old) = old {
            self.core.end_interrupt(old);
        }
        let msi = matches!(source, IntSource::Msi);
        // Message data are 16 bits wide (PCI Local Bus 3.0, 6.8.1.6).
        Ok(if msi { IrqInfo { msi, address, data: data as u32 } } else { IrqInfo::default() })
    }
}

/// What the arguments ask for: `irq_type="msi"`, or the line `irq_number` with its usual signalling unless stated.
fn source(args: Args<'_>, line: impl Fn(u32) -> Line) -> Option<IntSource> {
    if args.get("irq_type") == Some("msi") {
        return Some(IntSource::Msi);
    }
    let Line { gsi, level, low } = line(u32::try_from(args.number("irq_number")?).ok()?);
    let level = match args.get("irq_trigger") {
        Some("level") => true,
        Some("edge") => false,
        _ => level,
    };
    let low = match args.get("irq_polarity") {
        Some("low") => true,
        Some("high") => false,
        _ => low,
    };
    Some(IntSource::Gsi { gsi, level, low })
}

fn line_of(source: IntSource) -> Option<Range> {
    match source {
        IntSource::Gsi { gsi, .. } => Range::new(u64::from(gsi), 1),
        IntSource::Msi => None,
    }
}

impl<M: Machine> Core<'_, M> {
    /// Opens a session, or `None` if the interrupt is not to be had.
    pub(crate) fn open_irq(&mut self, args: Args<'_>, account: AccountId) -> Option<Result<Key, AccountError>> {
        let source = source(args, |number| self.isa_lines.line(number))?;
        let line = line_of(source);
        if let Some(line) = line {
            self.lines.take(line).ok()?;
        }
        let made = self.create_object(Kind::Irq, account);
        match made {
            Ok(key) => {
                self.irqs.insert(key, Irq { source, semaphore: None });
            }
            Err(_) => self.return_line(source),
        }
        Some(made)
    }

    fn return_line(&mut self, source: IntSource) {
        if let Some(line) = line_of(source) {
            let freed = self.lines.free(line);
            debug_assert!(freed.is_ok(), "{line:?} freed twice");
        }
    }

    /// Closes a session.
    pub(crate) fn destroy_irq(&mut self, key: Key) {
        if let Some(session) = self.irqs.remove(&key) {
            if let Some(semaphore) = session.semaphore {
                self.end_interrupt(semaphore);
            }
            self.return_line(session.source);
        }
        self.destroy_object(key);
    }

    /// Destroys the semaphore of an interrupt, and with it the assignment: a driver that kept it would keep the vector,
    /// of which all drivers together have some two hundred, and go on hearing of the interrupt.
    fn end_interrupt(&mut self, semaphore: Sel) {
        self.kernel.destroy(semaphore);
        self.free_selectors(semaphore, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa_lines::IsaLines;

    #[test]
    fn arguments_override_the_usual_signalling() {
        let source = |text| source(Args(text), |number| IsaLines::default().line(number));
        assert_eq!(source("irq_number=4"), Some(IntSource::Gsi { gsi: 4, level: false, low: false }));
        assert_eq!(
            source("irq_number=4, irq_trigger=\"level\", irq_polarity=\"low\""),
            Some(IntSource::Gsi { gsi: 4, level: true, low: true })
        );
        assert_eq!(source("irq_number=20"), Some(IntSource::Gsi { gsi: 20, level: true, low: true }));
        assert_eq!(source("irq_type=\"msi\""), Some(IntSource::Msi));
        assert_eq!(source("irq_number=0x100000000"), None);
        assert_eq!(source(""), None);
    }
}
