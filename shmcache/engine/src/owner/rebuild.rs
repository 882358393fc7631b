//! After an attach: walking the index, in slices between batches, to learn what the heap holds and how many keys there are
//! (see `heap/rebuild.rs`). Reading and writing go on meanwhile.

use super::Owner;
use crate::index::{Moved, MAX_CHAIN};
use crate::layout::*;

/// Buckets walked between two looks at the clock.
pub const SLICE_BUCKETS: u64 = 512;

/// How far the walk is. Buckets below `next_bucket` are counted in `keys`, `tombstones` and `parts`, and what happens to them later is added and subtracted.
#[derive(Default)]
pub struct Walk {
    pub next_bucket: u64,
    pub keys: u64,
    pub tombstones: u64,
    pub parts: u64,
}

impl Owner {
    /// Walk some buckets on. True if there are more. An error says how the region contradicts itself.
    pub fn walk_slice(&mut self, buckets: u64) -> Result<bool, String> {
        let Some(Walk { next_bucket, .. }) = self.walk else {
            return Ok(false);
        };
        let end = (next_bucket + buckets).min(self.index.state.buckets());
        let mut counts = [0; 3];
        for bucket in next_bucket..end {
            for (sum, more) in counts.iter_mut().zip(self.walk_bucket(bucket)?) {
                *sum += more;
            }
        }
        if let Some(walk) = &mut self.walk {
            walk.next_bucket = end;
            walk.keys += counts[0];
            walk.tombstones += counts[1];
            walk.parts += counts[2];
            if end == self.index.state.buckets() {
                self.keys = walk.keys;
                self.tombstones = walk.tombstones;
                self.parts = walk.parts;
                self.walk = None;
                self.heap.become_sure(&mut self.map);
                if !self.replica && self.group.is_none() {
                    // What a kill left of collections that were being made or freed.
                    self.condemn_rootless();
                }
                self.publish_gauges();
            }
        }
        Ok(self.walk.is_some())
    }

    pub fn finish_walk(&mut self) -> Result<(), String> {
        while self.walk_slice(SLICE_BUCKETS)? {}
        Ok(())
    }

    /// Keys, tombstones and parts of a bucket.
    fn walk_bucket(&mut self, bucket: u64) -> Result<[u64; 3], String> {
        let (mut keys, mut tombstones, mut parts) = (0, 0, 0);
        let mut at = self.index.bucket_at(bucket);
        for _ in 0..MAX_CHAIN {
            let mut next = None;
            for place in 1..=PLACES as u64 {
                let word = IndexWord(self.map.load(at + place * WORD));
                if word.is_empty() {
                    continue;
                }
                if !self.heap.contains(word.offset()) {
                    return Err(format!("bucket {bucket} points outside the heap"));
                }
                if word.is_link() {
                    self.heap.see(word.offset(), || BUCKET_BYTES);
                    next = Some(word.offset());
                } else {
                    let meta = Meta(self.map.load(word.offset().0 + WORD));
                    match () {
                        _ if word.is_tombstone() => tombstones += 1,
                        _ if meta.is_part() => parts += 1,
                        _ => keys += 1,
                    }
                    self.heap.see(word.offset(), || meta.entry_bytes());
                    self.collection_seen(word.offset(), meta);
                }
            }
            match next {
                Some(offset) => at = offset.0,
                None => return Ok([keys, tombstones, parts]),
            }
        }
        Err(format!("the chain of bucket {bucket} has no end"))
    }

    /// An entry was linked into this bucket.
    #[inline]
    pub(super) fn entry_added(&mut self, bucket: u64, meta: Meta) {
        let walk = self.walk.as_mut().filter(|walk| bucket < walk.next_bucket);
        if meta.is_tombstone() {
            self.tombstones += 1;
            walk.into_iter().for_each(|walk| walk.tombstones += 1);
        } else if meta.is_part() {
            self.parts += 1;
            walk.into_iter().for_each(|walk| walk.parts += 1);
        } else {
            self.keys += 1;
            walk.into_iter().for_each(|walk| walk.keys += 1);
        }
    }

    #[inline]
    pub(super) fn entry_removed(&mut self, bucket: u64, meta: Meta) {
        let walk = self.walk.as_mut().filter(|walk| bucket < walk.next_bucket);
        // Saturating: an estimate until the walk is through.
        if meta.is_tombstone() {
            self.tombstones = self.tombstones.saturating_sub(1);
            walk.into_iter().for_each(|walk| walk.tombstones -= 1);
        } else if meta.is_part() {
            self.parts = self.parts.saturating_sub(1);
            walk.into_iter().for_each(|walk| walk.parts -= 1);
        } else {
            self.keys = self.keys.saturating_sub(1);
            walk.into_iter().for_each(|walk| walk.keys -= 1);
        }
    }

    /// A split moved entries out of this bucket to the index's end, where the walk comes last.
    #[inline]
    pub(super) fn entries_moved(&mut self, bucket: u64, moved: Moved) {
        if let Some(walk) = self.walk.as_mut().filter(|walk| bucket < walk.next_bucket) {
            walk.keys -= moved.keys;
            walk.tombstones -= moved.tombstones;
            walk.parts -= moved.parts;
        }
    }
}
