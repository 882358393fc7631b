//! A slab: sixteen pages of equal places and the owner's private map of the free ones.

use super::classes::{class_bytes, class_places};
use crate::layout::PAGE_BYTES;

pub struct Slab {
    pub first_page: u64,
    pub class: usize,
    /// Position in its class' list of slabs with free places; NOT_LISTED while full.
    pub listed_at: u32,
    free: u32,
    /// Bit set = place free.
    map: Box<[u64]>,
    /// No free place lies in a word before this one.
    hint: u32,
    /// While a rebuild is under way, in a slab that is older than it: bit set = an entry is known to be there. What is neither here nor free
    /// may be an entry or garbage.
    seen: Option<Box<[u64]>>,
}

pub const NOT_LISTED: u32 = u32::MAX;

impl Slab {
    pub fn new(first_page: u64, class: usize) -> Slab {
        let places = class_places(class) as usize;
        let mut map = vec![!0u64; places.div_ceil(64)].into_boxed_slice();
        if !places.is_multiple_of(64) {
            *map.last_mut().expect("a slab has places") = (1 << (places % 64)) - 1;
        }
        Slab {
            first_page,
            class,
            listed_at: NOT_LISTED,
            free: places as u32,
            map,
            hint: 0,
            seen: None,
        }
    }

    /// A slab of a former owner: nothing in it may be given away before the index has been walked.
    pub fn unknown(first_page: u64, class: usize) -> Slab {
        let words = class_places(class).div_ceil(64) as usize;
        let nothing = || vec![0u64; words].into_boxed_slice();
        Slab {
            first_page,
            class,
            listed_at: NOT_LISTED,
            free: 0,
            map: nothing(),
            hint: 0,
            seen: Some(nothing()),
        }
    }

    /// The index has been walked: what was not seen is free.
    pub fn become_known(&mut self) {
        let Some(seen) = self.seen.take() else { return };
        *self = Slab {
            listed_at: self.listed_at,
            ..Slab::new(self.first_page, self.class)
        };
        for (free, seen) in self.map.iter_mut().zip(seen) {
            *free &= !seen;
        }
        self.free = self.map.iter().map(|word| word.count_ones()).sum();
    }

    pub fn free(&self) -> u64 {
        self.free as u64
    }

    pub fn used(&self) -> u64 {
        class_places(self.class) - self.free()
    }

    /// Byte position in the heap of a place.
    pub fn place_at(&self, place: u64) -> u64 {
        self.first_page * PAGE_BYTES + place * class_bytes(self.class)
    }

    fn place_of(&self, heap_at: u64) -> u64 {
        let distance = heap_at - self.first_page * PAGE_BYTES;
        debug_assert!(distance.is_multiple_of(class_bytes(self.class)));
        distance / class_bytes(self.class)
    }

    /// Take a free place; the slab must have one. Returns its byte position in the heap.
    #[inline]
    pub fn take(&mut self) -> u64 {
        let mut word = self.hint as usize;
        while self.map[word] == 0 {
            word += 1;
        }
        self.hint = word as u32;
        let bit = self.map[word].trailing_zeros() as u64;
        self.map[word] &= self.map[word] - 1;
        self.free -= 1;
        if let Some(seen) = &mut self.seen {
            seen[word] |= 1 << bit;
        }
        self.place_at(word as u64 * 64 + bit)
    }

    /// Give a place back.
    #[inline]
    pub fn give(&mut self, heap_at: u64) {
        let place = self.place_of(heap_at);
        let (word, bit) = ((place / 64) as usize, place % 64);
        assert!(self.map[word] >> bit & 1 == 0, "place given back twice");
        self.map[word] |= 1 << bit;
        self.hint = self.hint.min(word as u32);
        self.free += 1;
        if let Some(seen) = &mut self.seen {
            seen[word] &= !(1 << bit);
        }
    }

    /// The index points at this place.
    #[inline]
    pub fn see(&mut self, heap_at: u64) {
        let place = self.place_of(heap_at);
        if let Some(seen) = &mut self.seen {
            seen[(place / 64) as usize] |= 1 << (place % 64);
        }
    }

    /// Byte positions of the used places.
    pub fn used_places(&self) -> Vec<u64> {
        (0..class_places(self.class))
            .filter(|place| self.map[(place / 64) as usize] >> (place % 64) & 1 == 0)
            .map(|place| self.place_at(place))
            .collect()
    }
}
