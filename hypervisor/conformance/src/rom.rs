//! Boot modules with text for this program.

use crate::kit::memory;
use crate::sys::memory::load_byte;
use abi::hip::RangeKind;

/// How long a text may be.
const LIMIT: usize = 1024;
/// Room for one.
pub const BUFFER: [u8; LIMIT] = [0; LIMIT];

/// What follows `prefix` in the first module that begins with it.
///
/// # Errors
/// It cannot be taken as it is, and why.
pub fn read<'a>(prefix: &str, buffer: &'a mut [u8; LIMIT]) -> Result<Option<&'a str>, &'static str> {
    // The first module is this program.
    for module in memory::of_kind(RangeKind::Module).skip(1) {
        let at = memory::view(module.base, 1);
        let size = (module.size as usize).min(LIMIT);
        for (byte, offset) in buffer.iter_mut().take(size).zip(0..) {
            *byte = load_byte(at + offset);
        }
        if buffer.starts_with(prefix.as_bytes()) {
            if module.size > LIMIT as u64 {
                return Err("is longer than it may be");
            }
            let text = buffer.get(prefix.len()..size).map(core::str::from_utf8);
            return text.transpose().map_err(|_| "is not UTF-8");
        }
    }
    Ok(None)
}
