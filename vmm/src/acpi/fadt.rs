//! Fixed ACPI Description Table (ACPI 5.2.9).

use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use device_models::acpi_pm::{PM1_CONTROL_BYTES, PM1_EVENT_BYTES};
use device_models::pmtimer::PM_TIMER_BYTES;

use super::{MachineDescription, OEM_ID, OEM_REVISION, OEM_TABLE_ID};

/// IA-PC boot architecture flags (ACPI 5.2.9.3).
mod boot_architecture {
    pub(super) const LEGACY_DEVICES: u16 = 1 << 0;
    pub(super) const I8042: u16 = 1 << 1;
    pub(super) const NO_VGA: u16 = 1 << 2;
    pub(super) const NO_CMOS_RTC: u16 = 1 << 5;
}

/// A latency above 100 (C2) or 1000 (C3) microseconds says that the state is not supported.
const NO_C2: u16 = 0xfff;
const NO_C3: u16 = 0xfff;
/// CMOS register of the century.
const CENTURY: u8 = 0x32;

/// The table, pointing to `facs` and `dsdt` (both below 4 GiB).
pub(super) fn table(machine: &MachineDescription, facs: u64, dsdt: u64) -> FADT {
    let fixed = &machine.fixed;
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .preferred_pm_profile(PmProfile::Unspecified)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .firmware_ctrl_32(facs as u32)
        .dsdt_32(dsdt as u32);
    fadt.x_dsdt = dsdt.into();
    fadt.sci_int = u16::from(fixed.sci).into();
    fadt.pm1a_evt_blk = u32::from(fixed.pm1a_event).into();
    fadt.x_pm1a_evt_blk = ports(fixed.pm1a_event, PM1_EVENT_BYTES, AccessSize::WordAccess);
    fadt.pm1_evt_len = PM1_EVENT_BYTES as u8;
    fadt.pm1a_cnt_blk = u32::from(fixed.pm1a_control).into();
    fadt.x_pm1a_cnt_blk = ports(fixed.pm1a_control, PM1_CONTROL_BYTES, AccessSize::WordAccess);
    fadt.pm1_cnt_len = PM1_CONTROL_BYTES as u8;
    if let Some(port) = fixed.pm_timer {
        fadt = fadt.flag(Flags::TmrValExt);
        fadt.pm_tmr_blk = u32::from(port).into();
        fadt.x_pm_tmr_blk = ports(port, PM_TIMER_BYTES, AccessSize::DwordAccess);
        fadt.pm_tmr_len = PM_TIMER_BYTES as u8;
    }
    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    fadt.reset_reg = ports(fixed.reset_port, 1, AccessSize::ByteAccess);
    fadt.reset_value = fixed.reset_value;
    fadt.century = if machine.rtc.is_some() { CENTURY } else { 0 };
    fadt.iapc_boot_arch = boot_architecture(machine).into();
    fadt.finalize()
}

fn boot_architecture(machine: &MachineDescription) -> u16 {
    // There is no model of a VGA.
    let mut flags = boot_architecture::NO_VGA;
    if !machine.serial.is_empty() || machine.ps2.is_some() {
        flags |= boot_architecture::LEGACY_DEVICES;
    }
    if machine.ps2.is_some() {
        flags |= boot_architecture::I8042;
    }
    if machine.rtc.is_none() {
        flags |= boot_architecture::NO_CMOS_RTC;
    }
    flags
}

fn ports(port: u16, bytes: u16, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bytes as u8 * 8, 0, access, port.into())
}
