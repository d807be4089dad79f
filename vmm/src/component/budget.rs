//! Whether the component's account suffices, found out before anything large is taken from it.

use runtime::{Env, Error};

const MIB: u64 = 1 << 20;
/// Bytes that the component allocates from here on for itself: device models, buffers of sessions, threads. It takes about half of
/// that.
const OWN: u64 = 2 * MIB;
/// Bytes for each virtual CPU: stack and caches.
const PER_VCPU: u64 = MIB / 2;

/// Capabilities that the component takes from here on for itself, and for kernel objects and page tables. It takes about half of
/// that.
const OWN_CAPS: u64 = 48;
/// Capabilities for each virtual CPU: its context, its handler, their portals.
const PER_VCPU_CAPS: u64 = 16;

/// What a machine needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Bytes of guest RAM.
    pub guest_ram: u64,
    /// Bytes of files that are copied.
    pub copies: u64,
    /// Virtual CPUs.
    pub vcpus: u64,
}

/// Checks that the account can pay.
///
/// # Errors
/// It cannot: says how much is there, and how much is needed for what.
pub fn check(env: &Env, needs: Needs) -> Result<(), Error> {
    let account = env.pd().account()?;
    let caps = account.cap_used + OWN_CAPS + needs.vcpus.saturating_mul(PER_VCPU_CAPS);
    if caps > account.cap_quota {
        return Err(Error::input(format!(
            "capability quota of {} is too small: about {caps} for the VMM",
            account.cap_quota
        )));
    }
    let own = [account.ram_used, needs.copies, OWN, needs.vcpus.saturating_mul(PER_VCPU)];
    let own = own.into_iter().fold(0, u64::saturating_add);
    if own.saturating_add(needs.guest_ram) <= account.ram_quota {
        return Ok(());
    }
    Err(Error::input(format!(
        "RAM quota of {} MiB is too small: {} MiB for the guest's memory and about {} MiB for the VMM",
        account.ram_quota / MIB,
        needs.guest_ram.div_ceil(MIB),
        own.div_ceil(MIB)
    )))
}
