//! What every component links: from the first instruction to typed sessions.
//!
//! # A component
//!
//! ```ignore
//! #![cfg_attr(kilonova, no_std, no_main)]
//! runtime::component!(construct);
//! fn construct(env: &'static Env) -> Result<(), runtime::Error> { log!("hello"); Ok(()) }
//! ```
//!
//! `construct` runs on the entrypoint and must return; from then on the component reacts. Everything of the entrypoint is
//! single-threaded (`Rc`, `RefCell`): RPC, signal handlers and `construct` never overlap. [`log!`] works on every thread.
//!
//! # A client
//!
//! ```ignore
//! let timer = env.connect::<Timer>("")?;                 // blocks until the server answers; closes when dropped
//! let handler = env.entrypoint().signal_handler(move |_count| { /* read the state it is about, until nothing is left */ })?;
//! timer.sigh(handler.cap())?;                            // methods as declared in abi::session::timer
//! timer.trigger_once(1000)?;
//! let thread = rpc::client(&cap);                        // calls an object by its Cap<I>
//! ```
//!
//! # A server
//!
//! ```ignore
//! struct Session { .. }
//! impl timer::Server<Capability> for Session { fn trigger_once(&mut self, us: u64) { .. } .. }
//! struct Driver { .. }
//! impl Service<Timer> for Driver {
//!     type Session = Session;
//!     fn create(&mut self, request: &Request<'_>) -> Result<Rc<RefCell<Session>>, Refused> { .. }
//! }
//! env.announce::<Timer, _>(Driver { .. })?;              // session_requests, quota checks, close: done by `root`
//! ```
//!
//! Further objects: `let object = env.entrypoint().manage::<CpuThread, _>(Rc::new(RefCell::new(thread)))?` gives a
//! [`Managed`](entrypoint::Managed) whose `cap()` is passed to clients and whose drop dissolves it;
//! `entrypoint.resolve::<Thread>(&cap)` finds the object behind a capability that came home. Equal
//! [`Capability`](capability::Capability) values name the same object. Loops without entrypoint (pagers, vCPU handlers): [`sys::portal::LocalEc`] with a `Handler`.
//!
//! # What is where
//!
//! [`env`](mod@env) the environment; [`entrypoint`], [`root`] serving; [`rpc`], [`capability`], [`selector`] naming
//! and calling; [`dataspace`], [`rom`], [`heap`], [`thread`], [`sync`], [`semaphore`] (also
//! sleeping, which needs no Timer session) resources; [`io_ports`] devices;
//! [`console`] the log's UART, for root tasks; [`requests`], [`config`] XML;
//! [`sys`] everything unsafe. With `--cfg kilonova` this is a component's runtime. Without it (host tests) all logic
//! is there, but nothing starts by itself and no hypercall may be made.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests state their expectations tersely")
)]

extern crate alloc;

pub mod capability;
pub mod config;
pub mod console;
pub mod dataspace;
mod donation;
pub mod entrypoint;
pub mod env;
mod error;
pub mod heap;
pub mod io_ports;
pub mod log;
pub mod quota;
pub mod registry;
pub mod requests;
pub mod rom;
pub mod root;
pub mod rpc;
pub mod selector;
pub mod semaphore;
pub mod startup;
pub mod sync;
pub mod sys;
pub mod thread;

pub use env::Env;
pub use error::Error;
