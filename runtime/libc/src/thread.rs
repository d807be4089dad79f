//! POSIX threads, made by the CPU session.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::{c_int, c_void};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use libc::{pthread_attr_t, pthread_t};
use runtime::sync::Mutex;
use runtime::sys::stack::MAX_STACK;
use runtime::sys::utcb::library_words;
use runtime::thread::{Spawner, Thread, ThreadOptions};

use crate::key;

/// Stack of a thread without attributes: as much as `std` asks for.
const DEFAULT_STACK: usize = 2 << 20;
/// Index of the pointer to the thread's [`Control`] in [`library_words`]; zero for contexts that are not from here.
const WORD: usize = 1;

const RUNNING: u8 = 0;
/// Running, and nobody will join it.
const DETACHED: u8 = 1;
/// Its function has returned.
const FINISHED: u8 = 2;

/// What is known of a thread. A `pthread_t` is a reference to it, and the thread has another.
struct Control {
    state: AtomicU8,
    result: AtomicPtr<c_void>,
    /// Locked until the thread was made; empty once it is gone.
    thread: Mutex<Option<Thread>>,
}

static SPAWNER: Mutex<Option<Spawner>> = Mutex::new(None);
/// CPUs of the component.
static CPUS: AtomicU32 = AtomicU32::new(1);
/// Counts threads, to spread them.
static NEXT_CPU: AtomicU32 = AtomicU32::new(0);
/// Detached threads that have finished. A thread cannot free the stack that it runs on.
static ZOMBIES: Mutex<Vec<Arc<Control>>> = Mutex::new(Vec::new());

/// Sets what makes threads.
pub(crate) fn initialise(spawner: Spawner) {
    CPUS.store(spawner.cpus().max(1), Ordering::Relaxed);
    *SPAWNER.lock() = Some(spawner);
}

/// Number of CPUs that threads run on.
pub(crate) fn cpus() -> u32 {
    CPUS.load(Ordering::Relaxed)
}

/// Starts a thread; `None` if the account cannot pay for it.
pub(crate) fn spawn(name: &str, stack_size: usize, body: impl FnOnce() + Send + 'static) -> Option<Thread> {
    let spawner = SPAWNER.lock().clone()?;
    let cpu = NEXT_CPU.fetch_add(1, Ordering::Relaxed) % cpus();
    spawner.spawn(ThreadOptions { name, cpu, below: 0, stack_size: stack_size as u64 }, body).ok()
}

impl Control {
    /// Waits for the end of the thread and frees what it occupied.
    fn join(&self) -> *mut c_void {
        if let Some(thread) = self.thread.lock().take() {
            // It can only fail for want of the thread's semaphore, which is there.
            let _joined = thread.join();
        }
        self.result.load(Ordering::Relaxed)
    }

    /// What a thread does.
    fn run(self: Arc<Self>, start: extern "C" fn(*mut c_void) -> *mut c_void, argument: *mut c_void) {
        // SAFETY: the word is this context's own.
        unsafe { (*library_words())[WORD] = Arc::as_ptr(&self) as u64 };
        self.result.store(start(argument), Ordering::Relaxed);
        key::destroy_values();
        if self.state.swap(FINISHED, Ordering::AcqRel) == DETACHED {
            ZOMBIES.lock().push(self);
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    out: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: *mut c_void,
) -> c_int {
    let zombies = core::mem::take(&mut *ZOMBIES.lock());
    for zombie in zombies {
        zombie.join();
    }
    // SAFETY: the caller's pointer is null or leads to attributes from `pthread_attr_init`.
    let stack_size = unsafe { attributes.cast::<usize>().as_ref() }.copied().unwrap_or(DEFAULT_STACK);
    let control = Arc::new(Control {
        state: AtomicU8::new(RUNNING),
        result: AtomicPtr::new(null_mut()),
        thread: Mutex::new(None),
    });
    let argument = AtomicPtr::new(argument);
    let mut thread = control.thread.lock();
    let runner = Arc::clone(&control);
    *thread = spawn("thread", stack_size, move || runner.run(start, argument.into_inner()));
    if thread.is_none() {
        return libc::EAGAIN;
    }
    drop(thread);
    // SAFETY: the caller's pointer is valid.
    unsafe { *out = Arc::into_raw(control) as pthread_t };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_join(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    // SAFETY: the caller has it from `pthread_create`, and gives it back here.
    let control = unsafe { Arc::from_raw(thread as *const Control) };
    let value = control.join();
    if !result.is_null() {
        // SAFETY: the caller's pointer is valid.
        unsafe { *result = value };
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_detach(thread: pthread_t) -> c_int {
    // SAFETY: as above.
    let control = unsafe { Arc::from_raw(thread as *const Control) };
    if control.state.compare_exchange(RUNNING, DETACHED, Ordering::AcqRel, Ordering::Acquire).is_err() {
        control.join();
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_self() -> pthread_t {
    let words = library_words();
    // SAFETY: the word is this context's own.
    match unsafe { (*words)[WORD] } {
        // Not a thread from here: some number that no other has.
        0 => words as pthread_t,
        control => control,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_attr_init(attributes: *mut pthread_attr_t) -> c_int {
    // SAFETY: the caller's pointer is valid; the structure has room for the one attribute there is.
    unsafe { attributes.cast::<usize>().write(DEFAULT_STACK) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn pthread_attr_destroy(_attributes: *mut pthread_attr_t) -> c_int {
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_attr_setstacksize(attributes: *mut pthread_attr_t, size: usize) -> c_int {
    if !(libc::PTHREAD_STACK_MIN..=MAX_STACK as usize).contains(&size) {
        return libc::EINVAL;
    }
    // SAFETY: as above.
    unsafe { attributes.cast::<usize>().write(size) };
    0
}
