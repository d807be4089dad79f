//! Keys of thread-specific data. `std` uses one to get its thread-local variables destroyed.

use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::null_mut;

/// What is called with a thread's value when the thread ends.
type Destructor = unsafe extern "C" fn(*mut c_void);

/// All keys, by number. Numbers are not used again, so that a thread's value of a deleted key never comes back.
struct Keys {
    destructors: Vec<Option<Destructor>>,
}

impl Keys {
    const fn new() -> Self {
        Self { destructors: Vec::new() }
    }

    fn create(&mut self, destructor: Option<Destructor>) -> usize {
        self.destructors.push(destructor);
        self.destructors.len() - 1
    }

    fn delete(&mut self, key: usize) {
        if let Some(destructor) = self.destructors.get_mut(key) {
            *destructor = None;
        }
    }

    /// Takes out a value that has to be destroyed, and how.
    fn take(&self, values: &mut Values) -> Option<(Destructor, *mut c_void)> {
        values.0.iter_mut().zip(&self.destructors).find_map(|(value, destructor)| {
            let destructor = destructor.filter(|_| !value.is_null())?;
            Some((destructor, core::mem::replace(value, null_mut())))
        })
    }
}

/// The values of one thread, by key.
struct Values(Vec<*mut c_void>);

impl Values {
    fn get(&self, key: usize) -> *mut c_void {
        self.0.get(key).copied().unwrap_or(null_mut())
    }

    fn set(&mut self, key: usize, value: *mut c_void) {
        if self.0.len() <= key {
            self.0.resize(key + 1, null_mut());
        }
        if let Some(place) = self.0.get_mut(key) {
            *place = value;
        }
    }
}

#[cfg(kilonova)]
mod threads {
    use alloc::boxed::Box;
    use alloc::vec::Vec;
    use core::ffi::{c_int, c_void};
    use core::ptr::null_mut;

    use libc::pthread_key_t;
    use runtime::sync::Mutex;
    use runtime::sys::utcb::library_words;

    use super::{Destructor, Keys, Values};

    static KEYS: Mutex<Keys> = Mutex::new(Keys::new());

    /// Index of the pointer to the thread's [`Values`] in [`library_words`].
    const WORD: usize = 2;
    /// `PTHREAD_DESTRUCTOR_ITERATIONS`: how many values of each key are destroyed, if destructors keep setting new ones.
    const ROUNDS: usize = 4;

    fn place() -> *mut *mut Values {
        // SAFETY: the words stay as long as the context. No reference is made.
        unsafe { (&raw mut (*library_words())[WORD]).cast() }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn pthread_key_create(out: *mut pthread_key_t, destructor: Option<Destructor>) -> c_int {
        let key = KEYS.lock().create(destructor);
        // SAFETY: the caller's pointer is valid.
        unsafe { *out = key as pthread_key_t };
        0
    }

    #[unsafe(no_mangle)]
    extern "C" fn pthread_key_delete(key: pthread_key_t) -> c_int {
        KEYS.lock().delete(key as usize);
        0
    }

    #[unsafe(no_mangle)]
    extern "C" fn pthread_setspecific(key: pthread_key_t, value: *mut c_void) -> c_int {
        // SAFETY: the word is this context's own: null, or from here.
        let values = unsafe {
            let place = place();
            if (*place).is_null() {
                *place = Box::into_raw(Box::new(Values(Vec::new())));
            }
            &mut **place
        };
        values.set(key as usize, value);
        0
    }

    #[unsafe(no_mangle)]
    extern "C" fn pthread_getspecific(key: pthread_key_t) -> *mut c_void {
        // SAFETY: as above.
        unsafe { (*place()).as_ref() }.map_or(null_mut(), |values| values.get(key as usize))
    }

    /// Destroys the values of the running thread, which ends.
    pub(crate) fn destroy_values() {
        let limit = ROUNDS * KEYS.lock().destructors.len();
        for _ in 0..limit {
            // SAFETY: as above. The reference ends before the destructor, which may set values.
            let taken = unsafe { (*place()).as_mut() }.and_then(|values| KEYS.lock().take(values));
            let Some((destructor, value)) = taken else {
                break;
            };
            // SAFETY: it was set with a key that has this destructor.
            unsafe { destructor(value) };
        }
        // SAFETY: the thread does not look for it again.
        unsafe {
            let values = place().replace(null_mut());
            if !values.is_null() {
                drop(Box::from_raw(values));
            }
        }
    }
}

#[cfg(kilonova)]
pub(crate) use threads::destroy_values;

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn destructor(_: *mut c_void) {}

    #[test]
    fn values_with_a_destructor_are_taken_once() {
        let (mut keys, mut values) = (Keys::new(), Values(Vec::new()));
        let [deleted, without, with] =
            [Some(destructor as Destructor), None, Some(destructor)].map(|it| keys.create(it));
        let value = core::ptr::dangling_mut();
        for key in [deleted, without, with] {
            values.set(key, value);
        }
        keys.delete(deleted);
        assert_ne!(keys.create(None), deleted);
        assert_eq!(keys.take(&mut values).map(|(_, taken)| taken), Some(value));
        assert!(keys.take(&mut values).is_none());
        assert_eq!([values.get(with), values.get(without), values.get(9)], [null_mut(), value, null_mut()]);
    }
}
