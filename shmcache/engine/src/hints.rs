//! The hints region: marks of access by index position and the counters of attached clients. Advice only: anyone attached
//! may write anything here, and the worst it can do is a lower hit ratio or wrong statistics.
//!
//! A mark is one byte, its meaning set by the eviction policy in force (`header::MARK_MODE`):
//! * clock: the tick of the last access. The owner turns the clock by one each time 1/64 of the keys has been written, and a
//!   sweep keeps old marks from looking young when the byte wraps.
//! * counter: a logarithmic access counter as in Redis' LFU (Morris 1978), lowered by a sweep.

use crate::clock::now_ms;
use crate::layout::{hints, LAYOUT_VERSION, MAGIC_HINTS, PAGE_BYTES, WORD};
use crate::log::tailer::process_lives;
use crate::memory::{format_object, object_bytes, SharedMap};
use crate::sync::Ordering;
use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;

pub const MARK_NONE: u64 = 0;
pub const MARK_CLOCK: u64 = 1;
pub const MARK_COUNTER: u64 = 2;

/// A new key's counter, so that it is not the first to go (Redis: LFU_INIT_VAL).
pub const COUNTER_INIT: u8 = 5;

pub struct Hints {
    map: SharedMap,
    /// Pages of marks that the owner knows to have memory.
    committed_pages: HashSet<u64>,
}

/// Where the mark of the index word at `word_at` lies: a byte for each word from the first bucket on, buckets and overflow buckets alike.
#[inline]
pub fn mark_at(index_base: u64, word_at: u64) -> u64 {
    hints::MARKS_AT + (word_at - index_base) / WORD
}

impl Hints {
    /// `covered_bytes`: of the data region, from the first bucket to the end.
    pub fn create(fd: BorrowedFd, covered_bytes: u64) -> io::Result<Hints> {
        let bytes = hints::MARKS_AT + covered_bytes / WORD;
        format_object(fd, bytes, hints::MARKS_AT)?;
        let hints = Hints {
            map: SharedMap::new(fd, bytes)?,
            committed_pages: HashSet::new(),
        };
        hints.restore_header();
        Ok(hints)
    }

    /// The hints of a data region with `covered_bytes` from its first bucket to its end. Only the size is checked: what stands in
    /// the region, its header included, anyone may have overwritten, and that must keep no reader and no next owner out.
    pub fn attach(fd: BorrowedFd, covered_bytes: u64) -> Result<Hints, String> {
        let bytes = object_bytes(fd).map_err(|error| error.to_string())?;
        let wanted = hints::MARKS_AT + covered_bytes / WORD;
        if bytes < wanted {
            return Err(format!("a hints region of {bytes} bytes, the data region needs {wanted}"));
        }
        let map = SharedMap::new(fd, bytes).map_err(|error| error.to_string())?;
        Ok(Hints {
            map,
            committed_pages: HashSet::new(),
        })
    }

    /// For the owner: the header as it has to be.
    pub fn restore_header(&self) {
        self.map.store(hints::LAYOUT_VERSION, LAYOUT_VERSION);
        self.map.word(hints::MAGIC).store(MAGIC_HINTS, Ordering::Release);
    }

    /// For the owner: memory for the marks in [at, at + bytes).
    pub fn commit_marks(&mut self, at: u64, bytes: u64) -> io::Result<()> {
        let (first, last) = (at / PAGE_BYTES, (at + bytes - 1) / PAGE_BYTES);
        if (first..=last).all(|page| self.committed_pages.contains(&page)) {
            return Ok(());
        }
        let end = ((last + 1) * PAGE_BYTES).min(self.map.bytes());
        self.map.commit(first * PAGE_BYTES, end - first * PAGE_BYTES)?;
        self.committed_pages.extend(first..=last);
        Ok(())
    }

    /// A former owner did that.
    pub fn assume_committed(&mut self, at: u64, bytes: u64) {
        self.committed_pages.extend(at / PAGE_BYTES..=(at + bytes - 1) / PAGE_BYTES);
    }

    pub fn committed_bytes(&self) -> u64 {
        hints::MARKS_AT + self.committed_pages.len() as u64 * PAGE_BYTES
    }

    #[inline(always)]
    pub fn mark(&self, at: u64) -> u8 {
        self.map.byte(at).load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn set_mark(&self, at: u64, value: u8) {
        self.map.byte(at).store(value, Ordering::Relaxed);
    }

    /// Note an access. `random` is any evenly spread number.
    #[inline(always)]
    pub fn touch(&self, at: u64, mode: u64, clock: u64, lfu_log_factor: u64, random: impl FnOnce() -> u64) {
        match mode {
            // Storing only what changes keeps the cache line shared among readers.
            MARK_CLOCK if self.mark(at) != clock as u8 => self.set_mark(at, clock as u8),
            MARK_COUNTER => {
                let count = self.mark(at);
                if count < u8::MAX {
                    let above = count.saturating_sub(COUNTER_INIT) as u64;
                    if random().is_multiple_of(above * lfu_log_factor + 1) {
                        self.set_mark(at, count + 1);
                    }
                }
            }
            _ => {}
        }
    }

    /// Sums over all clients' places: (living clients, hits, misses, retries).
    pub fn clients(&self) -> ClientTotals {
        let mut totals = ClientTotals::default();
        for index in 0..hints::CLIENTS {
            let place = hints::CLIENTS_AT + index * hints::CLIENT_BYTES;
            let pid = self.map.load(place + hints::CLIENT_PID);
            totals.living += (pid != 0 && process_lives(pid)) as u64;
            // Wrapping: the numbers may be anything.
            let add = |sum: &mut u64, field| *sum = sum.wrapping_add(self.map.load(place + field));
            add(&mut totals.hits, hints::CLIENT_HITS);
            add(&mut totals.misses, hints::CLIENT_MISSES);
            add(&mut totals.retries, hints::CLIENT_RETRIES);
        }
        totals
    }

    /// Take a place for a client. The counters of a former holder are kept: they are part of the totals.
    pub fn register_client(&self) -> u64 {
        let pid = std::process::id() as u64;
        for index in 0..hints::CLIENTS {
            let place = hints::CLIENTS_AT + index * hints::CLIENT_BYTES;
            let word = self.map.word(place + hints::CLIENT_PID);
            let holder = word.load(Ordering::Relaxed);
            if (holder == 0 || !process_lives(holder))
                && word
                    .compare_exchange(holder, pid, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                self.map.store(place + hints::CLIENT_ATTACHED_MS, now_ms());
                return place;
            }
        }
        // More clients than places: share the last one; only counts suffer.
        hints::CLIENTS_AT + (hints::CLIENTS - 1) * hints::CLIENT_BYTES
    }

    pub fn release_client(&self, place: u64) {
        let pid = std::process::id() as u64;
        let _ = self
            .map
            .word(place + hints::CLIENT_PID)
            .compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// A number that changes from call to call, for a client's probabilistic counters.
    #[inline]
    pub fn random(&self, place: u64) -> u64 {
        let word = self.map.word(place + hints::CLIENT_RANDOM);
        // A Weyl sequence, mixed (the finaliser of SplitMix64, Steele et al. 2014).
        let next = word.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        word.store(next, Ordering::Relaxed);
        let mixed = (next ^ next >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 27
    }

    /// Add to a client's counter. Not an atomic addition: two threads may lose a count, but no reader ever waits for another.
    #[inline(always)]
    pub fn count(&self, place: u64, field: u64) {
        let word = self.map.word(place + field);
        word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

#[derive(Default, Clone, Copy)]
pub struct ClientTotals {
    pub living: u64,
    pub hits: u64,
    pub misses: u64,
    pub retries: u64,
}
