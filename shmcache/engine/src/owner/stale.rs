//! The marks of a full sync: first every entry is marked stale, then the primary's snapshot and records come in and clear what they confirm or
//! replace, at last what is still marked is deleted. Readers go on being served from the old entries meanwhile.
//!
//! A mark is one bit of the meta word, changed by a plain store without touching the bucket's version. Readers may do without: they load the
//! word once, old and new one describe the same entry, and no reader looks at the bit.
//!
//! Both walks go up the bucket numbers. A split moves entries only to the index's end, so what is there from the first step to the
//! last is met however the index grows.

use super::Owner;
use crate::index::Found;
use crate::layout::*;
use crate::log::Effect;
use crate::slots::slot_of;
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// Buckets walked between two looks at the clock.
const SLICE_BUCKETS: u64 = 64;

impl Owner {
    /// Mark the entries of these slots (empty: all) from bucket `cursor` on. The next cursor, 0 when all is done.
    pub fn mark_stale(&mut self, cursor: u64, scope: &[u8], budget: Duration) -> u64 {
        if cursor == 0 || self.stale_to == 0 {
            // What is written while the marking is under way is not older than the sync. A successor of the owner that began it does not know when
            // that was, and takes all that is there by now: on a replica nothing is written into the slots of the sync meanwhile.
            self.stale_to = self.last_stamp;
        }
        self.walk_buckets(cursor, budget, |owner, bucket| {
            for word in owner.words_where(bucket, scope, |meta| !meta.is_stale()) {
                let offset = word.offset();
                if owner.map.load(offset.0) <= owner.stale_to {
                    let meta = owner.map.load(offset.0 + WORD);
                    owner.map.store(offset.0 + WORD, meta | Meta::STALE);
                }
            }
        })
    }

    /// Delete the entries of these slots that are still marked, from bucket `cursor` on. The next cursor, and how many were deleted.
    pub fn sweep_stale(&mut self, cursor: u64, scope: &[u8], budget: Duration) -> (u64, u64) {
        self.set_time();
        let mut deleted = 0;
        let next = self.walk_buckets(cursor, budget, |owner, bucket| {
            for word in owner.words_where(bucket, scope, Meta::is_stale) {
                if let Some(found) = owner.found_word(bucket, word) {
                    // No tombstone: what the sync does not have may yet come from another node.
                    let origin = owner.next_origin();
                    owner.erase_as(&found, Effect::Delete, origin, false);
                    deleted += 1;
                }
            }
        });
        (next, deleted)
    }

    /// The sync confirmed the entry.
    pub(super) fn clear_stale(&mut self, found: &Found) {
        self.map.store(found.offset.0 + WORD, found.meta.0 & !Meta::STALE);
    }

    fn walk_buckets(&mut self, cursor: u64, budget: Duration, mut visit: impl FnMut(&mut Owner, u64)) -> u64 {
        let begun = Instant::now();
        let mut bucket = cursor;
        while bucket < self.index.state.buckets() {
            visit(self, bucket);
            bucket += 1;
            if bucket.is_multiple_of(SLICE_BUCKETS) && begun.elapsed() >= budget {
                break;
            }
        }
        if bucket < self.index.state.buckets() {
            bucket
        } else {
            0
        }
    }

    fn words_where(&self, bucket: u64, scope: &[u8], wanted: impl Fn(Meta) -> bool) -> SmallVec<[IndexWord; 8]> {
        let mut words = SmallVec::new();
        self.index.for_each(&self.map, bucket, |_, word| {
            let offset = word.offset();
            if !word.is_tombstone()
                && wanted(Meta(self.map.load(offset.0 + WORD)))
                && super::flush::in_scope(scope, slot_of(self.key_at(offset)))
            {
                words.push(word);
            }
        });
        words
    }
}
