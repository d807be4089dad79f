//! The heap: `talc` over an arena of the image and over memory from a source.

use alloc::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;

use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use crate::sync::Mutex;

/// Bytes of the arena of the image: enough to start and to ask for more.
const ARENA_SIZE: usize = 32 * 1024;
/// Least bytes asked from the source, where it has as many.
const GROWTH: usize = 64 * 1024;
/// Most bytes asked for beyond what is wanted.
const MAX_GROWTH: usize = 1 << 20;
/// What the allocator adds to an allocation at most, beside its alignment.
const OVERHEAD: usize = 4096;

#[repr(C, align(4096))]
struct Arena(UnsafeCell<[u8; ARENA_SIZE]>);

// SAFETY: only the heap looks at it, under its lock.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_SIZE]));

struct State {
    talc: Talc<Manual, DefaultBinning>,
    size: usize,
}

// SAFETY: the pointers inside lead to memory that is nobody's but the heap's.
unsafe impl Send for State {}

static HEAP: Mutex<State> = Mutex::new(State { talc: Talc::new(Manual), size: 0 });

/// Gets a range of as many bytes as the first number says or, where there are not as many, as the second says. It is mapped,
/// zeroed and nobody's. It is called with no lock of the heap held but must not allocate.
pub type Source = fn(wish: usize, least: usize) -> Option<FreshMemory>;

/// Memory for the heap.
#[derive(Debug)]
pub struct FreshMemory {
    address: u64,
    size: usize,
}

impl FreshMemory {
    /// Memory that was just mapped at `address` of the own address space and is known to nobody else.
    #[must_use]
    pub const fn mapped(address: u64, size: usize) -> Self {
        Self { address, size }
    }
}

static SOURCE: Mutex<Option<Source>> = Mutex::new(None);

/// Sets where the heap gets more memory from.
pub fn set_source(source: Source) {
    *SOURCE.lock() = Some(source);
}

/// The global allocator of components.
#[derive(Clone, Copy, Debug)]
pub struct Heap;

impl Heap {
    fn grow(layout: Layout) -> bool {
        // Held while growing, so that several threads do not grow for the same want at once.
        let source = SOURCE.lock();
        let Some(source) = *source else {
            return false;
        };
        let quarter = HEAP.lock().size / 4;
        let least = layout.size().saturating_add(layout.align()).saturating_add(OVERHEAD);
        let wish = least.max(quarter.clamp(GROWTH, MAX_GROWTH));
        let Some(fresh) = source(wish, least) else {
            return false;
        };
        let mut heap = HEAP.lock();
        // SAFETY: the source hands over the range for good.
        let claimed = unsafe { heap.talc.claim(fresh.address as *mut u8, fresh.size) };
        heap.size += fresh.size;
        claimed.is_some()
    }

    fn try_alloc(layout: Layout) -> Option<*mut u8> {
        let mut heap = HEAP.lock();
        if !heap.talc.is_metadata_established() {
            // SAFETY: the arena is used by nobody else.
            unsafe { heap.talc.claim(ARENA.0.get().cast(), ARENA_SIZE) };
            heap.size = ARENA_SIZE;
        }
        // SAFETY: the caller of `alloc` promises a size other than 0.
        unsafe { heap.talc.allocate(layout) }.map(core::ptr::NonNull::as_ptr)
    }
}

// SAFETY: every pointer comes from `talc`, under the lock, and goes back to it.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            if let Some(memory) = Self::try_alloc(layout) {
                return memory;
            }
            if !Self::grow(layout) {
                return core::ptr::null_mut();
            }
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller got it from `alloc` with this layout.
        unsafe { HEAP.lock().talc.deallocate(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller got it from `alloc` with this layout.
        if unsafe { HEAP.lock().talc.try_realloc_in_place(memory, layout, new_size) } {
            return memory;
        }
        // SAFETY: the caller's `new_size` makes a valid layout; both ranges hold what is copied and are distinct.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                core::ptr::copy_nonoverlapping(memory, new, layout.size().min(new_size));
                self.dealloc(memory, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of the host for the growing heap.
    fn host_memory(wish: usize, least: usize) -> Option<FreshMemory> {
        assert!(least <= wish);
        let memory = std::vec![0_u8; wish].leak();
        Some(FreshMemory::mapped(memory.as_mut_ptr() as u64, wish))
    }

    #[test]
    fn the_heap_grows_and_reuses() {
        let layout = Layout::from_size_align(ARENA_SIZE, 64).unwrap();
        // SAFETY: used as the trait says.
        unsafe {
            assert!(Heap.alloc(layout).is_null(), "the arena is too small and there is no source");
            set_source(host_memory);
            let first = Heap.alloc(layout);
            assert!(!first.is_null() && first.align_offset(64) == 0);
            first.write_bytes(0xa5, layout.size());
            let larger = Heap.realloc(first, layout, 3 * ARENA_SIZE);
            assert_eq!(*larger.add(layout.size() - 1), 0xa5);
            Heap.dealloc(larger, Layout::from_size_align(3 * ARENA_SIZE, 64).unwrap());
            let size = HEAP.lock().size;
            for _ in 0..100 {
                let again = Heap.alloc(layout);
                Heap.dealloc(again, layout);
            }
            assert_eq!(HEAP.lock().size, size);
        }
    }
}
