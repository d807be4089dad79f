//! Objects by number. A number is never used again for another object.

use alloc::vec::Vec;

const INDEX_BITS: u32 = 32;

/// Objects by number. A number is the index of a place and how often the place was used before.
#[derive(Debug)]
pub struct Registry<T> {
    places: Vec<Place<T>>,
    free: Vec<usize>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    content: Option<T>,
}

impl<T> Registry<T> {
    /// An empty registry.
    #[must_use]
    pub const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Adds an object and returns its number.
    pub fn insert(&mut self, content: T) -> u64 {
        while let Some(index) = self.free.pop() {
            if let Some(place) = self.places.get_mut(index) {
                place.content = Some(content);
                return u64::from(place.generation) << INDEX_BITS | index as u64;
            }
        }
        self.places.push(Place { generation: 0, content: Some(content) });
        (self.places.len() - 1) as u64
    }

    /// The object with this number.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&T> {
        let place = self.places.get(number as u32 as usize)?;
        if u64::from(place.generation) != number >> INDEX_BITS {
            return None;
        }
        place.content.as_ref()
    }

    /// Removes an object.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        self.get(number)?;
        let index = number as u32 as usize;
        let place = self.places.get_mut(index)?;
        let content = place.content.take();
        // A place whose generations are used up stays empty.
        if let Some(next) = place.generation.checked_add(1) {
            place.generation = next;
            self.free.push(index);
        }
        content
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|place| place.content.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn behaves_as_a_map_with_fresh_keys(operations in prop::collection::vec((any::<bool>(), any::<usize>()), 0..200)) {
            let mut registry = Registry::new();
            let (mut live, mut dead) = (BTreeMap::new(), Vec::new());
            for (add, pick) in operations {
                if add {
                    let number = registry.insert(pick);
                    prop_assert!(!dead.contains(&number));
                    prop_assert_eq!(live.insert(number, pick), None);
                } else if let Some(number) = live.keys().nth(pick % live.len().max(1)).copied() {
                    prop_assert_eq!(registry.remove(number), live.remove(&number));
                    dead.push(number);
                }
                prop_assert!(dead.iter().all(|number| registry.get(*number).is_none()));
                prop_assert!(live.iter().all(|(number, content)| registry.get(*number) == Some(content)));
                prop_assert_eq!(registry.iter().count(), live.len());
            }
        }

        #[test]
        fn unknown_numbers_are_nothing(number: u64) {
            let mut registry = Registry::new();
            let known = registry.insert(());
            prop_assert_eq!(registry.get(number).is_some(), number == known);
        }
    }
}
