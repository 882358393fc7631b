//! Tombstones: where there are several writers, a deletion must be remembered, or an older write of the key that arrives later would bring it back.
//! A tombstone is an entry without a value that has the deletion's stamp and node, until its deadline. Nobody but the replay sees it.
//!
//! Remembering is best effort: it never costs a living key. Without room no tombstone is made, and when memory is needed a tombstone goes
//! first, if one is found soon.

use super::Owner;
use crate::failpoint::{pass, FailPoint};
use crate::heap::Heap;
use crate::layout::*;
use crate::log::Record;

pub const DEFAULT_TOMBSTONE_LIFE_MS: u64 = 3_600_000;
/// Thirty days. A node that was away for longer needs a full sync anyway.
pub const MAX_TOMBSTONE_LIFE_MS: u64 = 30 * 24 * 3_600_000;
/// Buckets that are looked into for a tombstone before a living entry is evicted.
pub(super) const DROP_PROBES: u64 = 256;

impl Owner {
    pub fn set_tombstone_life(&mut self, life_ms: u64) -> Result<(), String> {
        if !(1..=MAX_TOMBSTONE_LIFE_MS).contains(&life_ms) {
            return Err(format!(
                "tombstone_life_ms is {life_ms}, it must be 1 to {MAX_TOMBSTONE_LIFE_MS}"
            ));
        }
        self.tombstone_life_ms = life_ms;
        self.map.store(header::TOMBSTONE_LIFE_MS, life_ms);
        Ok(())
    }

    /// True if deletions are remembered.
    #[inline]
    pub(super) fn buries(&self) -> bool {
        self.node != 0
    }

    /// Remember the deletion of a key that has no entry any more.
    pub(super) fn bury(&mut self, key: &[u8], origin: Origin) {
        if let Some(offset) = self.new_tombstone(key, origin) {
            self.link_tombstone(key, offset);
        }
    }

    /// Replay the deletion of a key that is not here: it may arrive before what it deletes. False if it cannot be remembered.
    pub(super) fn bury_unknown(&mut self, record: &Record) -> bool {
        self.hold_slot(record.key);
        let Some(offset) = self.new_tombstone(record.key, record.origin()) else {
            return false;
        };
        self.stage_delete(record.key, record.effect, record.origin(), false);
        self.log.commit();
        pass(FailPoint::LogPublished);
        self.link_tombstone(record.key, offset);
        self.grow_index();
        self.applied();
        true
    }

    /// An unlinked tombstone, if its time is not over and there is room without anything having to go.
    fn new_tombstone(&mut self, key: &[u8], origin: Origin) -> Option<Offset> {
        let deadline = (origin.stamp >> 16).saturating_add(self.tombstone_life_ms);
        if deadline <= self.now_ms {
            return None;
        }
        let meta = Meta::new(Kind::Tombstone, key.len(), 0, true).with_node(origin.node);
        let bytes = meta.entry_bytes();
        let room = self.used_bytes() + Heap::footprint(bytes) + BUCKET_BYTES <= self.memory_limit();
        let Some(offset) = room.then(|| self.heap.allocate(&mut self.map, bytes).ok()).flatten() else {
            self.counters.tombstones_dropped += 1;
            return None;
        };
        self.map.store(offset.0, origin.stamp);
        self.map.store(offset.0 + WORD, meta.0);
        self.map.store(offset.0 + 2 * WORD, deadline);
        self.map.write(offset.0 + meta.key_at(), key);
        pass(FailPoint::TombstoneWritten);
        Some(offset)
    }

    fn link_tombstone(&mut self, key: &[u8], offset: Offset) {
        let hash = self.index.hash(key);
        let place = match self.index.find(&self.map, hash, key) {
            Some(found) => Ok((found.place, Some(found))),
            None => self
                .index
                .empty_place(&mut self.map, &mut self.heap, &mut self.hints, hash)
                .map(|place| (place, None)),
        };
        match place {
            Ok(place) => self.link(place, key, offset),
            Err(_) => {
                self.free_entry(offset);
                self.counters.tombstones_dropped += 1;
            }
        }
        pass(FailPoint::TombstoneLinked);
    }

    /// Forget a deletion to make room, if one is found in `probes` buckets. The search goes on where the last one ended.
    pub(super) fn drop_tombstone(&mut self, probes: u64) -> bool {
        if self.tombstones == 0 {
            return false;
        }
        let buckets = self.index.state.buckets();
        for _ in 0..probes.min(buckets) {
            let bucket = self.tombstone_bucket % buckets;
            let mut word = None;
            self.index.for_each(&self.map, bucket, |_, other| {
                if other.is_tombstone() {
                    word = Some(other);
                }
            });
            if let Some(found) = word.and_then(|word| self.found_word(bucket, word)) {
                self.unlink(&found);
                self.counters.tombstones_dropped += 1;
                return true;
            }
            self.tombstone_bucket = bucket + 1;
        }
        false
    }
}
