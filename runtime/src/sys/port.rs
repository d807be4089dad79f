//! I/O ports. Using one that core has not put into the component's port space stops the thread.

/// A range of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    base: u16,
    size: u16,
}

/// The offset, with the width of the access, leaves the range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

impl PortRange {
    /// `size` ports from `base`; `None` if that leaves the port space.
    #[must_use]
    pub const fn new(base: u16, size: u16) -> Option<Self> {
        if base as u32 + size as u32 > 1 << 16 { None } else { Some(Self { base, size }) }
    }

    const fn port(self, offset: u16, width: u16) -> Result<u16, OutOfRange> {
        if offset as u32 + width as u32 > self.size as u32 { Err(OutOfRange) } else { Ok(self.base + offset) }
    }
}

macro_rules! accesses {
    ($($input:ident $output:ident $type:ty, $register:tt;)*) => {
        impl PortRange {
            $(
                /// Reads the port at an offset.
                ///
                /// # Errors
                /// It leaves the range.
                pub fn $input(self, offset: u16) -> Result<$type, OutOfRange> {
                    let port = self.port(offset, size_of::<$type>() as u16)?;
                    let value: $type;
                    // SAFETY: IN and OUT touch no memory of the program. A device that does is confined by the IOMMU
                    // or trusted by whoever routed its ports here.
                    unsafe {
                        core::arch::asm!(concat!("in ", $register, ", dx"), in("dx") port, out($register) value,
                                         options(nomem, nostack, preserves_flags));
                    }
                    Ok(value)
                }

                /// Writes the port at an offset.
                ///
                /// # Errors
                /// It leaves the range.
                pub fn $output(self, offset: u16, value: $type) -> Result<(), OutOfRange> {
                    let port = self.port(offset, size_of::<$type>() as u16)?;
                    // SAFETY: as for reads.
                    unsafe {
                        core::arch::asm!(concat!("out dx, ", $register), in("dx") port, in($register) value,
                                         options(nostack, preserves_flags));
                    }
                    Ok(())
                }
            )*
        }
    };
}

accesses! {
    in8 out8 u8, "al";
    in16 out16 u16, "ax";
    in32 out32 u32, "eax";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_stay_inside_the_range() {
        let range = PortRange::new(0x3f8, 8).unwrap();
        assert_eq!(range.port(7, 1), Ok(0x3ff));
        assert_eq!(range.port(7, 2), Err(OutOfRange));
        assert_eq!(range.port(u16::MAX, 1), Err(OutOfRange));
        assert_eq!(PortRange::new(0xffff, 2), None);
        assert!(PortRange::new(0xffff, 1).is_some());
    }
}
