//! What the owner does between batches, in bounded slices: heartbeat, expiry, decay of counters; and compaction when pages run out.

use super::{Entry, Owner};
use crate::failpoint::{pass, FailPoint};
use crate::index::Found;
use crate::layout::*;
use crate::log::Effect;
use smallvec::SmallVec;
use std::time::{Duration, Instant};

impl Owner {
    /// Work for at most about `budget`. True if there is more to do at once. An error says how the region contradicts itself.
    pub fn tick(&mut self, budget: Duration) -> Result<bool, String> {
        let begun = Instant::now();
        self.set_time();
        self.map.store(header::HEARTBEAT_MS, self.now_ms);
        self.publish_gauges();
        let mut more = false;
        while self.walk_slice(super::rebuild::SLICE_BUCKETS)? {
            if begun.elapsed() > budget {
                more = true;
                break;
            }
        }
        // A replica keeps its deadlines for the day when it is none.
        while !self.replica {
            let Some(buckets) = self.deadlines.take_due(self.now_ms) else {
                break;
            };
            for bucket in buckets {
                self.expire_bucket(bucket);
            }
            if begun.elapsed() > budget {
                more = true;
                break;
            }
        }
        while self.free_dying() {
            if begun.elapsed() > budget {
                more = true;
                break;
            }
        }
        self.find_rootless();
        Ok(more | self.decay_counters(4096))
    }

    pub fn publish_gauges(&mut self) {
        self.map.store(header::KEYS, self.keys);
        self.map.store(header::TOMBSTONES, self.tombstones);
        self.map.store(header::PARTS, self.parts);
        let used = self.used_bytes();
        self.map.store(header::USED_BYTES, used);
    }

    /// Delete the expired entries of a bucket and note the deadlines of the others.
    fn expire_bucket(&mut self, bucket: u64) {
        if bucket >= self.index.state.buckets() {
            return;
        }
        let mut expired = SmallVec::<[IndexWord; 8]>::new();
        let mut remaining = u64::MAX;
        self.index.for_each(&self.map, bucket, |_, word| {
            if word.has_deadline() {
                let deadline = self.map.load(word.offset().0 + 2 * WORD);
                if deadline != 0 && deadline <= self.now_ms {
                    expired.push(word);
                } else if deadline != 0 {
                    remaining = remaining.min(deadline);
                }
            }
        });
        if remaining != u64::MAX {
            self.deadlines.note(bucket, remaining);
        }
        for word in expired {
            // Deleting moves words within the chain, so each is looked for anew.
            let Some(found) = self.found_word(bucket, word) else {
                continue;
            };
            if word.is_tombstone() {
                // Every node forgets it by itself.
                self.unlink(&found);
            } else {
                let id = found.meta.is_part().then(|| self.part_id(found.offset));
                self.erase(&found, Effect::Expired);
                if let Some(id) = id {
                    self.drop_if_emptied(id);
                }
            }
        }
    }

    /// Empty the sparsest slab by moving its entries into others of its class. False if nothing can be gained.
    pub(super) fn compact(&mut self) -> bool {
        // A slab without entries gains its pages at no cost.
        if self.heap.drop_empty_slab(&mut self.map) {
            return true;
        }
        let Some(sparse) = self.heap.sparsest() else { return false };
        let Some(&first) = sparse.entries.first() else { return false };
        self.heap.avoid(first);
        // An entry that nothing points at belongs to the write under way: it stays, and so does its slab.
        let mut moved = Vec::with_capacity(sparse.entries.len());
        for from in sparse.entries {
            let Some(found) = self.found_at(from) else { continue };
            let bytes = found.meta.entry_bytes();
            let Ok(to) = self.heap.allocate(&mut self.map, bytes) else {
                break;
            };
            for word in 0..bytes / WORD {
                let value = self.map.load(from.0 + word * WORD);
                self.map.store(to.0 + word * WORD, value);
            }
            let word = IndexWord::entry(found.word.tag(), to, found.meta);
            self.index.swing(&mut self.map, found.place, word);
            self.collection_moved(from, to, found.meta);
            pass(FailPoint::EntryMoved);
            moved.push((from, bytes));
        }
        let gained = !moved.is_empty();
        if !gained {
            self.heap.admit(first);
        }
        for (from, bytes) in moved {
            self.heap.free(&mut self.map, from, bytes);
        }
        self.counters.compactions += gained as u64;
        gained
    }

    /// The index's view of the entry at this offset, if it is linked.
    pub(super) fn found_at(&self, offset: Offset) -> Option<Found> {
        let hash = self.index.hash_of(&self.map, offset);
        let bucket = self.index.state.bucket_of(hash);
        let mut found = None;
        self.index.for_each(&self.map, bucket, |place, word| {
            if word.offset() == offset {
                found = Some(Found {
                    place,
                    word,
                    offset,
                    meta: Meta(self.map.load(offset.0 + WORD)),
                });
            }
        });
        found
    }

    /// Order-free digest of all live entries: the sum of each one's hash.
    pub fn digest(&mut self) -> u64 {
        self.set_time();
        let mut sum = 0u64;
        for bucket in 0..self.index.state.buckets() {
            self.live_entries(bucket, |entry| sum = sum.wrapping_add(self.entry_digest(&entry)));
        }
        sum
    }

    fn entry_digest(&self, entry: &Entry) -> u64 {
        let key = xxhash_rust::xxh3::xxh3_64(self.key_at(entry.offset));
        let value = xxhash_rust::xxh3::xxh3_64_with_seed(self.value(entry), key);
        let rest = [
            value,
            self.stamp(entry),
            self.deadline(entry),
            entry.meta.kind_code() as u64 | (entry.meta.node() as u64) << 8,
        ]
        .map(u64::to_le_bytes)
        .concat();
        xxhash_rust::xxh3::xxh3_64(&rest)
    }

    /// Walk everything and check that the accounts add up.
    pub fn verify(&mut self) -> Result<u64, String> {
        self.finish_walk()?;
        let (mut keys, mut tombstones, mut parts) = (0, 0, 0);
        let mut bytes = 0;
        let mut error = None;
        for bucket in 0..self.index.state.buckets() {
            if self.map.load(self.index.bucket_at(bucket)) & 1 == 1 {
                return Err(format!("bucket {bucket} is marked as being changed"));
            }
            self.index.for_each(&self.map, bucket, |_, word| {
                let offset = word.offset();
                let meta = Meta(self.map.load(offset.0 + WORD));
                if word.is_tombstone() {
                    tombstones += 1;
                } else if meta.is_part() {
                    parts += 1;
                } else {
                    keys += 1;
                }
                bytes += crate::heap::Heap::footprint(meta.entry_bytes());
                let hash = self.index.hash_of(&self.map, offset);
                if self.index.state.bucket_of(hash) != bucket || tag_of(hash) != word.tag() {
                    error = Some(format!(
                        "the entry at {} is in bucket {bucket}, where it does not belong",
                        offset.0
                    ));
                } else if meta.has_deadline() != word.has_deadline() {
                    error = Some(format!(
                        "the entry at {} and its index word disagree about a deadline",
                        offset.0
                    ));
                } else if meta.is_tombstone() != word.is_tombstone() {
                    error = Some(format!(
                        "the entry at {} and its index word disagree about a tombstone",
                        offset.0
                    ));
                } else if self
                    .index
                    .find(&self.map, hash, self.key_at(offset))
                    .map(|found| found.offset)
                    != Some(offset)
                {
                    error = Some(format!("the entry at {} is hidden by another of its key", offset.0));
                }
            });
        }
        if let Some(error) = error {
            return Err(error);
        }
        if (keys, tombstones, parts) != (self.keys, self.tombstones, self.parts) {
            return Err(format!(
                "{keys} keys, {tombstones} tombstones and {parts} parts in the index, {}, {} and {} by count",
                self.keys, self.tombstones, self.parts
            ));
        }
        self.verify_collections()?;
        let chains: u64 = self
            .heap
            .used_bytes()
            .checked_sub(bytes)
            .ok_or_else(|| format!("entries take {bytes} bytes, by count {}", self.heap.used_bytes()))?;
        if chains != self.chained_buckets() * BUCKET_BYTES {
            return Err(format!(
                "{chains} bytes belong to no entry; {} overflow buckets are linked",
                self.chained_buckets()
            ));
        }
        self.heap.verify()?;
        Ok(keys)
    }

    fn chained_buckets(&self) -> u64 {
        let mut count = 0;
        for bucket in 0..self.index.state.buckets() {
            let mut at = self.index.bucket_at(bucket);
            let mut steps = 0;
            loop {
                crate::index::bounded(&mut steps);
                let last = IndexWord(self.map.load(at + WORD * PLACES as u64));
                if !last.is_link() {
                    break;
                }
                count += 1;
                at = last.offset().0;
            }
        }
        count
    }
}
