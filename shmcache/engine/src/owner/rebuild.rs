//! After an attach: walking the index, in slices between batches, to learn what the heap holds and how many keys there are
//! (see `heap/rebuild.rs`). Reading and writing go on meanwhile.

use super::Owner;
use crate::index::MAX_CHAIN;
use crate::layout::*;

/// Buckets walked between two looks at the clock.
pub const SLICE_BUCKETS: u64 = 512;

/// How far the walk is. Buckets below `next_bucket` are counted in `keys`, and what happens to them later is added and subtracted.
pub struct Walk {
    pub next_bucket: u64,
    pub keys: u64,
}

impl Owner {
    /// Walk some buckets on. True if there are more. An error says how the region contradicts itself.
    pub fn walk_slice(&mut self, buckets: u64) -> Result<bool, String> {
        let Some(Walk { next_bucket, .. }) = self.walk else {
            return Ok(false);
        };
        let end = (next_bucket + buckets).min(self.index.state.buckets());
        let mut keys = 0;
        for bucket in next_bucket..end {
            keys += self.walk_bucket(bucket)?;
        }
        if let Some(walk) = &mut self.walk {
            walk.next_bucket = end;
            walk.keys += keys;
            if end == self.index.state.buckets() {
                self.keys = walk.keys;
                self.walk = None;
                self.heap.become_sure(&mut self.map);
                self.publish_gauges();
            }
        }
        Ok(self.walk.is_some())
    }

    pub fn finish_walk(&mut self) -> Result<(), String> {
        while self.walk_slice(SLICE_BUCKETS)? {}
        Ok(())
    }

    fn walk_bucket(&mut self, bucket: u64) -> Result<u64, String> {
        let mut keys = 0;
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
                let map = &self.map;
                if word.is_link() {
                    self.heap.see(word.offset(), || BUCKET_BYTES);
                    next = Some(word.offset());
                } else {
                    keys += 1;
                    self.heap
                        .see(word.offset(), || Meta(map.load(word.offset().0 + WORD)).entry_bytes());
                }
            }
            match next {
                Some(offset) => at = offset.0,
                None => return Ok(keys),
            }
        }
        Err(format!("the chain of bucket {bucket} has no end"))
    }

    /// A key was linked into this bucket.
    #[inline]
    pub(super) fn key_added(&mut self, bucket: u64) {
        self.keys += 1;
        if let Some(walk) = self.walk.as_mut().filter(|walk| bucket < walk.next_bucket) {
            walk.keys += 1;
        }
    }

    #[inline]
    pub(super) fn key_removed(&mut self, bucket: u64) {
        // Saturating: an estimate until the walk is through.
        self.keys = self.keys.saturating_sub(1);
        if let Some(walk) = self.walk.as_mut().filter(|walk| bucket < walk.next_bucket) {
            walk.keys -= 1;
        }
    }

    /// A split moved keys out of this bucket to the index's end, where the walk comes last.
    #[inline]
    pub(super) fn keys_moved(&mut self, bucket: u64, count: u64) {
        if let Some(walk) = self.walk.as_mut().filter(|walk| bucket < walk.next_bucket) {
            walk.keys -= count;
        }
    }
}
