//! Result of a hypercall.

/// What a hypercall returns in RAX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Status {
    /// Done.
    Success = 0,
    /// A semaphore's deadline passed.
    Timeout = 1,
    /// The callee was destroyed before it replied, or the semaphore while it was waited for.
    Aborted = 2,
    /// A counter would overflow.
    Overflow = 3,
    /// No such hypercall.
    BadHypercall = 4,
    /// The selector names no object, one of another type, a destroyed one, or lacks the permission.
    BadCapability = 5,
    /// A parameter is out of its range.
    BadParameter = 6,
    /// The hardware lacks the feature.
    BadFeature = 7,
    /// No such CPU, or the operation is not possible from this CPU.
    BadCpu = 8,
    /// The account that pays cannot: its kernel-memory quota is used up.
    OutOfMemory = 9,
    /// The destination is in use, or the object still has dependents.
    Busy = 10,
}

impl Status {
    /// Decodes RAX; unknown values are `None`.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            0 => Self::Success,
            1 => Self::Timeout,
            2 => Self::Aborted,
            3 => Self::Overflow,
            4 => Self::BadHypercall,
            5 => Self::BadCapability,
            6 => Self::BadParameter,
            7 => Self::BadFeature,
            8 => Self::BadCpu,
            9 => Self::OutOfMemory,
            10 => Self::Busy,
            _ => return None,
        })
    }

    /// `Ok` for success, the status itself as error otherwise.
    ///
    /// # Errors
    /// Every status but [`Status::Success`].
    pub const fn ok(self) -> Result<(), Self> {
        match self {
            Self::Success => Ok(()),
            error => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn every_value_round_trips_and_unknown_ones_do_not() {
        for raw in 0..=10 {
            assert_eq!(Status::from_raw(raw).unwrap() as u64, raw);
        }
        assert_eq!(Status::from_raw(11), None);
    }
}
