//! PCI: configuration spaces, capabilities and the host bridge.

pub mod config;
pub mod hostbridge;
pub mod msi;
pub mod msix;
