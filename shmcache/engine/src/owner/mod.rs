//! The owner: the only writer of a shard.
//!
//! Every mutation goes the same way, and a kill between any two steps loses nothing that was acknowledged:
//! 1. memory for the new entry (evicting if need be), entry written, a place in the index found: nobody sees any of it;
//! 2. the effect record is published in the log;
//! 3. the index word is swung to the new entry, the old entry freed;
//! 4. the journal word APPLIED_POSITION moves behind the record.
//!
//! After a kill before 2 there is garbage that the rebuild of the heap reclaims; after 2 recovery redoes the records behind
//! APPLIED_POSITION. A group of records (a transaction) is published by one store, so it is redone whole or never was.

mod apply;
pub mod collections;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod crash_tests_nodes;
mod create;
mod evict;
mod flush;
mod group;
#[cfg(test)]
mod hash_tests;
mod housekeeping;
pub mod large;
pub mod list;
#[cfg(test)]
mod list_tests;
pub mod marks;
pub mod order;
mod prepared;
mod rebuild;
mod recover;
mod redo;
mod replica;
pub mod scan_places;
mod stale;
mod stats;
#[cfg(test)]
mod stories;
#[cfg(test)]
pub mod testing;
mod tombstone;
mod write;
#[cfg(test)]
mod zset_tests;

pub use apply::ApplyError;
pub use create::{Options, OwnError, MIN_CAPACITY_BYTES};
pub use evict::Policy;
pub use prepared::Decisions;
pub use recover::{check_header, Recovery};
pub use stats::Stats;

use crate::clock::now_ms;
use crate::deadlines::Deadlines;
use crate::heap::Heap;
use crate::hints::Hints;
use crate::index::{Found, Index, Place};
use crate::layout::*;
use crate::log::{Effect, LogWriter};
use crate::memory::OwnerMap;
use collections::Collections;
use evict::Evictor;
use group::Group;
use large::CompactLimits;
use marks::FlushMarks;
use prepared::Prepared;
use rebuild::Walk;
use smallvec::SmallVec;
use stats::Counters;

/// Why a write cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The memory limit is reached and the policy allows no eviction, or nothing is left to evict.
    OutOfMemory,
    /// The system has no memory for the region (/dev/shm or the cgroup is full).
    NoSpace,
    KeyTooLong,
    /// A field or member of a large collection.
    NameTooLong,
    ValueTooLong,
    /// A transaction's records would take more than half of the log ring.
    GroupTooLarge,
}

/// An entry as commands see it: valid until the next write.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub offset: Offset,
    pub meta: Meta,
    /// None for one that only the open group sees.
    place: Option<Place>,
}

pub struct Owner {
    map: OwnerMap,
    heap: Heap,
    index: Index,
    hints: Hints,
    log: LogWriter,
    deadlines: Deadlines,
    evictor: Evictor,
    group: Option<Group>,
    prepared: Option<Prepared>,
    /// The walk of the index after an attach; None when it is through. `keys` and the heap's used bytes are estimates until then.
    walk: Option<Walk>,
    /// Unix ms, read once per batch: all commands of a batch see one time.
    pub now_ms: u64,
    last_stamp: u64,
    /// Living keys: tombstones are not among them.
    keys: u64,
    tombstones: u64,
    /// Parts of large collections: neither keys nor tombstones.
    parts: u64,
    collections: Collections,
    /// Large collections that the command under way works on: they must not be evicted from under it.
    pinned: SmallVec<[u64; 4]>,
    pub compact_limits: CompactLimits,
    pub scan_places: scan_places::ScanPlaces,
    /// What the changes of the command under way are called in the log.
    pub event: u8,
    /// A group is being made real: the orders of collections have its changes already.
    committing: bool,
    tombstone_life_ms: u64,
    /// Where the search for tombstones to drop goes on.
    tombstone_bucket: u64,
    flush_marks: FlushMarks,
    memory_bytes: u64,
    epoch: u32,
    /// Own number among several writers; 0 = there is one.
    node: u16,
    generation: u64,
    /// See `replica.rs`.
    replica: bool,
    /// Address of the primary, for refusals.
    primary: String,
    /// Entries up to this stamp are marked by the marking under way: see `stale.rs`.
    stale_to: u64,
    /// Owned slots, a bit each; None = all.
    slots: Option<Box<[u8; SLOT_COUNT / 8]>>,
    /// As in the header.
    held_slots: u64,
    pub counters: Counters,
    pub recovery: Recovery,
    /// What a former owner had prepared: its token, and whether it was committed.
    pub resolved: Option<(u64, bool)>,
}

impl Owner {
    /// Read the clock: to be called at the start of each batch.
    #[inline]
    pub fn set_time(&mut self) {
        self.now_ms = now_ms();
    }

    #[inline]
    pub fn owns_slot(&self, slot: u16) -> bool {
        self.slots
            .as_ref()
            .is_none_or(|bits| bits[slot as usize / 8] >> (slot % 8) & 1 == 1)
    }

    /// Position behind the last record of the log.
    pub fn log_position(&self) -> u64 {
        self.log.head()
    }

    /// The largest stamp that was given or seen here.
    pub fn last_stamp(&self) -> u64 {
        self.last_stamp
    }

    pub fn keys(&self) -> u64 {
        self.keys
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn node(&self) -> u16 {
        self.node
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn shard(&self) -> (u64, u64) {
        (self.map.load(header::SHARD), self.map.load(header::SHARDS))
    }

    /// What counts against the memory limit: entries, overflow buckets, buckets, marks.
    #[inline]
    pub fn used_bytes(&self) -> u64 {
        self.heap.used_bytes() + self.index.used_bytes() / BUCKET_BYTES * (BUCKET_BYTES + WORD)
    }

    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The live entry of a key. An expired one is deleted on the way (but see `replica.rs`).
    #[inline]
    pub fn lookup(&mut self, key: &[u8]) -> Option<Entry> {
        if let Some(group) = &self.group {
            if let Some(pending) = group.get(key) {
                let offset = pending?;
                let entry = Entry {
                    offset,
                    meta: Meta(self.map.load(offset.0 + WORD)),
                    place: None,
                };
                return (!self.is_expired(&entry)).then_some(entry);
            }
        }
        let hash = self.index.hash(key);
        let found = self.index.find(&self.map, hash, key)?;
        let entry = Entry {
            offset: found.offset,
            meta: found.meta,
            place: Some(found.place),
        };
        if found.meta.has_deadline() && found.meta.is_tombstone() {
            return None;
        }
        if found.meta.has_deadline() && self.is_expired(&entry) {
            // A replica deletes when its primary says so.
            if !self.replica {
                self.erase(&found, Effect::Expired);
            }
            return None;
        }
        Some(entry)
    }

    #[inline]
    pub fn prefetch(&self, key: &[u8]) {
        self.index.prefetch(&self.map, self.index.hash(key));
    }

    /// As `lookup`, counted as an access.
    #[inline]
    pub fn access(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.lookup(key);
        match &entry {
            Some(Entry { place: Some(place), .. }) => {
                self.counters.hits += 1;
                self.evictor.touch(&self.hints, self.index.mark_at(place.at));
            }
            Some(_) => self.counters.hits += 1,
            None => self.counters.misses += 1,
        }
        entry
    }

    #[inline]
    pub fn value(&self, entry: &Entry) -> &[u8] {
        self.map
            .slice(entry.offset.0 + entry.meta.value_at(), entry.meta.value_bytes())
    }

    #[inline]
    pub fn key_at(&self, offset: Offset) -> &[u8] {
        let meta = Meta(self.map.load(offset.0 + WORD));
        self.map.slice(offset.0 + meta.key_at(), meta.key_bytes())
    }

    #[inline]
    pub fn stamp(&self, entry: &Entry) -> u64 {
        self.map.load(entry.offset.0)
    }

    /// Unix ms; 0 = none.
    #[inline]
    pub fn deadline(&self, entry: &Entry) -> u64 {
        self.deadline_at(entry.offset, entry.meta)
    }

    /// The deadline of an entry, unix ms; 0 = none.
    #[inline]
    fn deadline_at(&self, offset: Offset, meta: Meta) -> u64 {
        if meta.has_deadline() {
            self.map.load(offset.0 + 2 * WORD)
        } else {
            0
        }
    }

    #[inline]
    fn is_expired(&self, entry: &Entry) -> bool {
        let deadline = self.deadline(entry);
        deadline != 0 && deadline <= self.now_ms
    }

    pub fn index_state(&self) -> IndexState {
        self.index.state
    }

    /// Keys' entries of one bucket, expired ones left out.
    pub fn bucket_entries(&self, bucket: u64, mut visit: impl FnMut(Entry)) {
        self.live_entries(bucket, |entry| {
            if !entry.meta.is_part() {
                visit(entry);
            }
        });
    }

    /// All of one bucket but tombstones and what expired.
    fn live_entries(&self, bucket: u64, mut visit: impl FnMut(Entry)) {
        self.index.for_each(&self.map, bucket, |place, word| {
            let entry = Entry {
                offset: word.offset(),
                meta: Meta(self.map.load(word.offset().0 + WORD)),
                place: Some(place),
            };
            if !word.is_tombstone() && !self.is_expired(&entry) {
                visit(entry);
            }
        });
    }

    /// The entry that this word of the bucket's chain points at, if it still stands there.
    fn found_word(&self, bucket: u64, word: IndexWord) -> Option<Found> {
        let mut at = None;
        self.index.for_each(&self.map, bucket, |place, other| {
            if other == word {
                at = Some(place);
            }
        });
        let offset = word.offset();
        at.map(|place| Found {
            place,
            word,
            offset,
            meta: Meta(self.map.load(offset.0 + WORD)),
        })
    }

    pub fn random(&mut self) -> u64 {
        self.evictor.random()
    }
}
