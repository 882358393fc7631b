//! The heap: slabs of equal places for entries up to 16 KiB, page runs for larger ones, all from one array of pages.
//!
//! What lies in shared memory is only the page table (which class a slab has). Free places and runs are the owner's
//! private knowledge, rebuilt from the index after a restart, in slices: see `rebuild.rs`.

pub mod classes;
mod rebuild;
mod runs;
mod slab;

use crate::failpoint::{pass, FailPoint};
use crate::layout::*;
use crate::memory::OwnerMap;
use classes::*;
use runs::Runs;
use slab::{Slab, NOT_LISTED};
use std::collections::BTreeMap;

/// Why memory cannot be had.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Full {
    /// The configured limit of pages is reached: evicting or compacting may help.
    Limit,
    /// The system has no more (tmpfs or cgroup full).
    System,
}

/// A slab that could be emptied by moving its entries.
pub struct Sparse {
    pub class: usize,
    /// Positions of its entries.
    pub entries: Vec<Offset>,
}

pub struct Heap {
    base: u64,
    page_table: u64,
    /// Pages that the region's address space has.
    reserved_pages: u64,
    committed_pages: u64,
    /// Pages that may be committed.
    pub page_limit: u64,
    runs: Runs,
    slabs: Vec<Slab>,
    /// Numbers of `slabs` places not in use.
    spare: Vec<u32>,
    /// Page -> slab number plus one.
    slab_of_page: Vec<u32>,
    /// Per class: slabs with free places.
    listed: Vec<Vec<u32>>,
    used_bytes: u64,
    /// Bytes of slab places, used or not.
    slab_bytes: u64,
    /// While the index has not been walked after an attach: the large entries known so far, first page -> pages.
    unsure: Option<BTreeMap<u64, u64>>,
}

impl Heap {
    pub fn new(map: &OwnerMap) -> Heap {
        let base = map.load(header::HEAP_BASE);
        let committed_pages = (map.load(header::HEAP_COMMITTED) - base) / PAGE_BYTES;
        Heap {
            base,
            page_table: map.load(header::PAGE_TABLE_BASE),
            reserved_pages: (map.bytes() - base) / PAGE_BYTES,
            committed_pages,
            page_limit: u64::MAX,
            runs: Runs::default(),
            slabs: Vec::new(),
            spare: Vec::new(),
            slab_of_page: vec![0; committed_pages as usize],
            listed: vec![Vec::new(); CLASSES],
            used_bytes: 0,
            slab_bytes: 0,
            unsure: None,
        }
    }

    /// Bytes of places and pages that entries and overflow buckets take.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub fn committed_bytes(&self) -> u64 {
        self.committed_pages * PAGE_BYTES
    }

    pub fn free_page_bytes(&self) -> u64 {
        self.runs.pages() * PAGE_BYTES
    }

    /// What an entry of `bytes` takes.
    pub fn footprint(bytes: u64) -> u64 {
        if bytes <= MAX_SLAB_ENTRY_BYTES {
            class_bytes(class_of(bytes))
        } else {
            bytes.next_multiple_of(PAGE_BYTES)
        }
    }

    /// Memory for an entry of `bytes`, its content undefined.
    #[inline]
    pub fn allocate(&mut self, map: &mut OwnerMap, bytes: u64) -> Result<Offset, Full> {
        if bytes <= MAX_SLAB_ENTRY_BYTES {
            return self.allocate_place(map, class_of(bytes));
        }
        let pages = bytes.div_ceil(PAGE_BYTES);
        let first = self.take_pages(map, pages)?;
        self.used_bytes += pages * PAGE_BYTES;
        if let Some(large) = &mut self.unsure {
            large.insert(first, pages);
        }
        Ok(Offset(self.base + first * PAGE_BYTES))
    }

    pub fn allocate_bucket(&mut self, map: &mut OwnerMap) -> Result<Offset, Full> {
        self.allocate_place(map, BUCKET_CLASS)
    }

    /// See to it that the next `count` calls of `allocate_bucket` succeed, splits of the index between them included.
    pub fn reserve_buckets(&mut self, map: &mut OwnerMap, count: u64) -> Result<(), Full> {
        // A split that follows a new key may take buckets too: twice two per key at most.
        let wanted = if count == 0 { 0 } else { count * 5 };
        let mut free: u64 = self.listed[BUCKET_CLASS]
            .iter()
            .map(|&number| self.slabs[number as usize].free())
            .sum();
        while free < wanted {
            let number = self.new_slab(map, BUCKET_CLASS)?;
            free += self.slabs[number as usize].free();
        }
        Ok(())
    }

    #[inline]
    fn allocate_place(&mut self, map: &mut OwnerMap, class: usize) -> Result<Offset, Full> {
        let number = match self.listed[class].last() {
            Some(&number) => number,
            None => self.new_slab(map, class)?,
        };
        let slab = &mut self.slabs[number as usize];
        let at = slab.take();
        if slab.free() == 0 {
            slab.listed_at = NOT_LISTED;
            self.listed[class].pop();
        }
        self.used_bytes += class_bytes(class);
        Ok(Offset(self.base + at))
    }

    /// Take back the memory of an entry of `bytes`.
    #[inline]
    pub fn free(&mut self, map: &mut OwnerMap, offset: Offset, bytes: u64) {
        if bytes <= MAX_SLAB_ENTRY_BYTES {
            self.free_place(map, offset);
        } else {
            let pages = bytes.div_ceil(PAGE_BYTES);
            let first = (offset.0 - self.base) / PAGE_BYTES;
            self.used_bytes = self.used_bytes.saturating_sub(pages * PAGE_BYTES);
            if let Some(large) = &mut self.unsure {
                large.remove(&first);
            }
            self.runs.give(first, pages);
        }
    }

    pub fn free_bucket(&mut self, map: &mut OwnerMap, offset: Offset) {
        self.free_place(map, offset);
    }

    #[inline]
    fn free_place(&mut self, map: &mut OwnerMap, offset: Offset) {
        let at = offset.0 - self.base;
        let number = self.slab_of_page[(at / PAGE_BYTES) as usize] - 1;
        let slab = &mut self.slabs[number as usize];
        slab.give(at);
        let class = slab.class;
        // Saturating: until the index has been walked after an attach this is an estimate.
        self.used_bytes = self.used_bytes.saturating_sub(class_bytes(class));
        if slab.listed_at == NOT_LISTED {
            slab.listed_at = self.listed[class].len() as u32;
            self.listed[class].push(number);
        } else if slab.used() == 0 && self.listed[class].len() > 1 {
            // The last slab with free places stays: a class that swings about zero would take and give pages for ever.
            self.drop_slab(map, number);
        }
    }

    fn new_slab(&mut self, map: &mut OwnerMap, class: usize) -> Result<u32, Full> {
        let first = match self.take_pages(map, SLAB_PAGES) {
            Ok(first) => first,
            Err(full) => {
                // Another class may sit on a slab without entries.
                if !self.drop_empty_slab(map) {
                    return Err(full);
                }
                self.take_pages(map, SLAB_PAGES)?
            }
        };
        map.store_byte(self.page_table + first, class as u8 + 1);
        pass(FailPoint::SlabMarked);
        Ok(self.register(Slab::new(first, class)))
    }

    fn register(&mut self, mut slab: Slab) -> u32 {
        let number = self.spare.pop().unwrap_or(self.slabs.len() as u32);
        let (first, class) = (slab.first_page as usize, slab.class);
        self.slab_of_page[first..first + SLAB_PAGES as usize].fill(number + 1);
        self.slab_bytes += SLAB_BYTES;
        if slab.free() > 0 {
            slab.listed_at = self.listed[class].len() as u32;
            self.listed[class].push(number);
        }
        if number as usize == self.slabs.len() {
            self.slabs.push(slab);
        } else {
            self.slabs[number as usize] = slab;
        }
        number
    }

    fn unlist(&mut self, number: u32) {
        let slab = &mut self.slabs[number as usize];
        let (class, at) = (slab.class, slab.listed_at);
        if at == NOT_LISTED {
            return;
        }
        slab.listed_at = NOT_LISTED;
        self.listed[class].swap_remove(at as usize);
        if let Some(&moved) = self.listed[class].get(at as usize) {
            self.slabs[moved as usize].listed_at = at;
        }
    }

    fn drop_slab(&mut self, map: &mut OwnerMap, number: u32) {
        self.unlist(number);
        let first = self.slabs[number as usize].first_page;
        // The mark goes before the pages can serve anything else.
        map.store_byte(self.page_table + first, NO_SLAB);
        self.slab_of_page[first as usize..(first + SLAB_PAGES) as usize].fill(0);
        self.slab_bytes -= SLAB_BYTES;
        self.spare.push(number);
        self.runs.give(first, SLAB_PAGES);
    }

    /// Give back the pages of a slab that has no entries. False if there is none.
    pub fn drop_empty_slab(&mut self, map: &mut OwnerMap) -> bool {
        let empty = self
            .listed
            .iter()
            .flatten()
            .copied()
            .find(|&number| self.slabs[number as usize].used() == 0);
        if let Some(number) = empty {
            self.drop_slab(map, number);
        }
        empty.is_some()
    }

    fn take_pages(&mut self, map: &mut OwnerMap, pages: u64) -> Result<u64, Full> {
        if let Some(first) = self.runs.take(pages) {
            return Ok(first);
        }
        self.grow(map, pages)?;
        self.runs.take(pages).ok_or(Full::Limit)
    }

    /// Commit an extent, or what `pages` needs if that is more, or just what it needs if an extent is too much.
    fn grow(&mut self, map: &mut OwnerMap, pages: u64) -> Result<(), Full> {
        let room = self.page_limit.min(self.reserved_pages).saturating_sub(self.committed_pages);
        if room < pages {
            return Err(Full::Limit);
        }
        let mut want = pages.next_multiple_of(EXTENT_BYTES / PAGE_BYTES).min(room);
        let at = self.base + self.committed_pages * PAGE_BYTES;
        if map.commit(at, want * PAGE_BYTES).is_err() {
            want = pages;
            map.commit(at, want * PAGE_BYTES).map_err(|_| Full::System)?;
        }
        self.runs.give(self.committed_pages, want);
        self.committed_pages += want;
        self.slab_of_page.resize(self.committed_pages as usize, 0);
        map.publish(header::HEAP_COMMITTED, self.base + self.committed_pages * PAGE_BYTES);
        pass(FailPoint::HeapGrown);
        Ok(())
    }

    /// The slab whose entries are the fewest and fit into other slabs of its class, if emptying it gains anything.
    pub fn sparsest(&self) -> Option<Sparse> {
        let mut best: Option<(u64, u32)> = None;
        for class in 0..ENTRY_CLASSES {
            let list = &self.listed[class];
            if list.len() < 2 {
                continue;
            }
            let free: u64 = list.iter().map(|&number| self.slabs[number as usize].free()).sum();
            for &number in list {
                let slab = &self.slabs[number as usize];
                let bytes = slab.used() * class_bytes(class);
                if free - slab.free() >= slab.used() && best.is_none_or(|(least, _)| bytes < least) {
                    best = Some((bytes, number));
                }
            }
        }
        let slab = &self.slabs[best?.1 as usize];
        Some(Sparse {
            class: slab.class,
            entries: slab.used_places().into_iter().map(|at| Offset(self.base + at)).collect(),
        })
    }

    /// Keep new entries out of the slab at `offset` while it is being emptied.
    pub fn avoid(&mut self, offset: Offset) {
        let number = self.slab_of_page[((offset.0 - self.base) / PAGE_BYTES) as usize] - 1;
        self.unlist(number);
    }

    /// The slab at `offset` was not emptied after all.
    pub fn admit(&mut self, offset: Offset) {
        let number = self.slab_of_page[((offset.0 - self.base) / PAGE_BYTES) as usize] - 1;
        let slab = &mut self.slabs[number as usize];
        if slab.free() > 0 && slab.listed_at == NOT_LISTED {
            slab.listed_at = self.listed[slab.class].len() as u32;
            self.listed[slab.class].push(number);
        }
    }

    /// Forget every entry and overflow bucket: all committed pages are free.
    pub fn clear(&mut self, map: &mut OwnerMap) {
        for slab in &self.slabs {
            map.store_byte(self.page_table + slab.first_page, NO_SLAB);
        }
        let page_limit = self.page_limit;
        *self = Heap::new(map);
        self.page_limit = page_limit;
        if self.committed_pages > 0 {
            self.runs.give(0, self.committed_pages);
        }
    }

    /// Check the accounts; an error names the contradiction.
    pub fn verify(&self) -> Result<(), String> {
        let slab_pages = self.slab_bytes / PAGE_BYTES;
        let in_slabs: u64 = self.slab_of_page.iter().map(|&number| (number != 0) as u64).sum();
        if slab_pages != in_slabs {
            return Err(format!("slabs take {slab_pages} pages by count, {in_slabs} by the page map"));
        }
        let mut used = 0;
        for (number, slab) in self.slabs.iter().enumerate() {
            if !self.is_alive(number as u32) {
                continue; // a spare place
            }
            used += slab.used() * class_bytes(slab.class);
            if (slab.free() > 0) != (slab.listed_at != NOT_LISTED) {
                return Err(format!(
                    "slab {number} has {} free places and is listed at {}",
                    slab.free(),
                    slab.listed_at
                ));
            }
        }
        let large = (self.committed_pages - slab_pages - self.runs.pages()) * PAGE_BYTES;
        if used + large != self.used_bytes {
            return Err(format!(
                "used bytes: {} in slabs + {large} large, {} by count",
                used, self.used_bytes
            ));
        }
        Ok(())
    }
}
