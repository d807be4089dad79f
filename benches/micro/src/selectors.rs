//! Who is where in the object space of this task.

use abi::cap::Sel;

/// A thread ups it when it has finished.
pub const DONE: Sel = Sel(0x1000);
/// Nobody ups it.
pub const NEVER: Sel = Sel(0x1001);
/// Two threads take turns.
pub const PING: Sel = Sel(0x1002);
/// See [`PING`].
pub const PONG: Sel = Sel(0x1003);
/// Bound to an interrupt.
pub const LINE: Sel = Sel(0x1004);
/// Never anything.
pub const NOTHING: Sel = Sel(0x1008);

/// Portals of handlers.
pub const SAME_DOMAIN: Sel = Sel(0x1010);
/// Replies at once, in the other domain.
pub const OTHER_DOMAIN: Sel = Sel(0x1011);
/// Replies with words in the UTCB.
pub const OTHER_DOMAIN_LONG: Sel = Sel(0x1012);
/// Opens the receive window of that handler.
pub const OTHER_DOMAIN_OPEN: Sel = Sel(0x1013);
/// On another CPU.
pub const OTHER_CPU: Sel = Sel(0x1014);

/// The other domain and its spaces.
pub const DOMAIN: Sel = Sel(0x1020);
/// See [`DOMAIN`].
pub const DOMAIN_OBJ: Sel = Sel(0x1021);
/// See [`DOMAIN`].
pub const DOMAIN_MEM: Sel = Sel(0x1022);

/// Portal handlers.
pub const HANDLERS: Sel = Sel(0x1030);
/// Execution contexts of threads.
pub const THREADS: Sel = Sel(0x1040);
/// Scheduling contexts of threads.
pub const THREAD_SCS: Sel = Sel(0x1048);

/// Events of the thread that raises exceptions.
pub const THREAD_EVENTS: Sel = Sel(0x1100);
/// Events of the virtual CPU.
pub const GUEST_EVENTS: Sel = Sel(0x1200);
/// The virtual CPU, its scheduling context, and its memory.
pub const VCPU: Sel = Sel(0x1300);
/// See [`VCPU`].
pub const VCPU_SC: Sel = Sel(0x1301);
/// See [`VCPU`].
pub const GUEST: Sel = Sel(0x1302);

/// Where measured operations create objects.
pub const CREATED: Sel = Sel(0x2000);
