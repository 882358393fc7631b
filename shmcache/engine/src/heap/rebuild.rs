//! Learning what is free in a heap that a former owner left.
//!
//! Only a walk of the index tells entries from garbage, and it takes long (about 35 ns a key). So the owner serves at once and walks in
//! slices. Until it is through, nothing of the old heap is given away but what this owner itself has freed; new
//! entries go into fresh pages. Each old slab keeps a map of the places known to hold an entry: the walk adds what it meets, writing adds
//! what it takes, and freeing removes. So when the walk has passed every bucket, exactly the linked entries are in it.

use super::slab::Slab;
use super::Heap;
use crate::heap::classes::{class_bytes, CLASSES};
use crate::heap::runs::Runs;
use crate::layout::*;
use crate::memory::OwnerMap;
use std::collections::BTreeMap;

impl Heap {
    /// The heap of a region that somebody owned before; `used_bytes` is an estimate. None if its page table is damaged.
    pub fn unknown(map: &OwnerMap, used_bytes: u64) -> Option<Heap> {
        let mut heap = Heap::new(map);
        let mut page = 0;
        while page < heap.committed_pages {
            let mark = map.byte(heap.page_table + page);
            if mark == NO_SLAB {
                page += 1;
                continue;
            }
            let class = mark as usize - 1;
            if class >= CLASSES || page + SLAB_PAGES > heap.committed_pages {
                return None;
            }
            heap.register(Slab::unknown(page, class));
            page += SLAB_PAGES;
        }
        heap.used_bytes = used_bytes;
        heap.unsure = Some(BTreeMap::new());
        Some(heap)
    }

    pub fn is_unsure(&self) -> bool {
        self.unsure.is_some()
    }

    /// True if the offset lies in the committed heap.
    #[inline]
    pub fn contains(&self, offset: Offset) -> bool {
        offset.0 >= self.base && offset.0 < self.base + self.committed_bytes()
    }

    /// The index (or a chain) points at this entry. `bytes` is asked only for what lies in no slab.
    #[inline]
    pub fn see(&mut self, offset: Offset, bytes: impl FnOnce() -> u64) {
        let at = offset.0 - self.base;
        match self.slab_of_page[(at / PAGE_BYTES) as usize] {
            0 => {
                if let Some(large) = &mut self.unsure {
                    large.insert(at / PAGE_BYTES, bytes().div_ceil(PAGE_BYTES));
                }
            }
            number => self.slabs[number as usize - 1].see(at),
        }
    }

    /// An entry that a former owner wrote and this one links.
    pub fn adopt(&mut self, offset: Offset, bytes: u64) {
        self.see(offset, || bytes);
        self.used_bytes += Heap::footprint(bytes);
    }

    /// Every linked entry has been seen: the rest is free.
    pub fn become_sure(&mut self, map: &mut OwnerMap) {
        let Some(large) = self.unsure.take() else { return };
        let alive: Vec<u32> = (0..self.slabs.len() as u32).filter(|&number| self.is_alive(number)).collect();
        let mut taken: Vec<(u64, u64)> = large.into_iter().collect();
        self.used_bytes = taken.iter().map(|(_, pages)| pages * PAGE_BYTES).sum();
        for &number in &alive {
            self.unlist(number);
            let slab = &mut self.slabs[number as usize];
            slab.become_known();
            taken.push((slab.first_page, SLAB_PAGES));
            self.used_bytes += slab.used() * class_bytes(slab.class);
            if slab.free() > 0 {
                slab.listed_at = self.listed[slab.class].len() as u32;
                self.listed[slab.class].push(number);
            }
        }
        taken.sort_unstable();
        self.runs = Runs::default();
        let mut next = 0;
        for (first, pages) in taken {
            if first > next {
                self.runs.give(next, first - next);
            }
            next = first + pages;
        }
        if next < self.committed_pages {
            self.runs.give(next, self.committed_pages - next);
        }
        for number in alive {
            if self.slabs[number as usize].used() == 0 {
                self.drop_slab(map, number);
            }
        }
    }

    /// False for a place of `slabs` that waits for its next use.
    pub(super) fn is_alive(&self, number: u32) -> bool {
        let first = self.slabs[number as usize].first_page as usize;
        self.slab_of_page.get(first) == Some(&(number + 1))
    }
}
