//! What the loader and the firmware tell, parsed. Pure: bytes in, facts out.

pub mod acpi;
pub mod elf;
pub mod info;
pub mod multiboot;
