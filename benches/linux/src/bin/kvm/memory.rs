//! RAM of the guest.

use std::ptr;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Bytes, from address 0 on.
const SIZE: usize = 128 << 20;

/// RAM of the guest, which has it as long as this process lives.
pub struct GuestMemory {
    start: *mut u8,
}

impl GuestMemory {
    /// Allocates it and gives it to the guest.
    pub fn new(vm: &VmFd) -> std::io::Result<Self> {
        // SAFETY: a new mapping where the kernel finds room.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
        // A fault for each page, as where memory is too fragmented for large pages.
        // SAFETY: the mapping just made.
        unsafe { madvise(start, SIZE, Advice::LinuxNoHugepage)? };
        let region = kvm_userspace_memory_region {
            memory_size: SIZE as u64,
            userspace_addr: start as u64,
            ..Default::default()
        };
        // SAFETY: the mapping is never undone, and this process accesses it through `write` only.
        unsafe { vm.set_user_memory_region(region)? };
        Ok(Self { start: start.cast() })
    }

    /// Copies bytes to an address. False if they do not fit.
    #[must_use]
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        let Some(room) = usize::try_from(address).ok().and_then(|address| SIZE.checked_sub(address)) else {
            return false;
        };
        if bytes.len() > room {
            return false;
        }
        // SAFETY: inside the mapping, as just checked. The guest does not run meanwhile: its only CPU is this thread.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(SIZE - room), bytes.len()) };
        true
    }
}
