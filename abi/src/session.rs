//! Session protocols: what components say to each other.
//!
//! A session is an RPC object of a server. Its interface is declared once with [`rpc!`](crate::rpc), which makes
//! the typed [client](rpc::Interface::Client), the server trait and the dispatcher of the same module. One file per interface:
//!
//! | module | interface | served by |
//! |---|---|---|
//! | [`parent`] | the only capability that a component starts with | the component that owns it |
//! | [`pd`], [`region_map`], [`rm`], [`dataspace`] | accounts, memory, address spaces | core |
//! | [`cpu`], [`cpu_thread`] | threads | core |
//! | [`io_mem`], [`io_port`], [`irq`] | device resources | core |
//! | [`vm`] | guest memory and virtual CPUs | core |
//! | [`rom`], [`log`] | read-only data, lines of text | core and others |
//! | [`timer`], [`rtc`], [`terminal`], [`report`] | time, date, characters, state | drivers and servers |
//!
//! [`initial`] says what a component finds at its start, and [`args`] how session arguments are written.

pub mod affinity;
pub mod args;
pub mod cpu;
pub mod cpu_thread;
pub mod dataspace;
pub mod initial;
pub mod io_mem;
pub mod io_port;
pub mod irq;
pub mod log;
pub mod parent;
pub mod pd;
pub mod region_map;
pub mod report;
pub mod rm;
pub mod rom;
pub mod rpc;
pub mod rtc;
pub mod terminal;
pub mod timer;
pub mod vm;
pub mod wire;
