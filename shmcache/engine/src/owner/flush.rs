//! Deleting everything at once, in all slots or in some. A flush record's value is its scope: empty for all slots, else a bitmap (slot s is bit
//! s % 8 of byte s / 8).
//!
//! The fast way drops index and heap whole. It needs to know that nothing stays: that all entries are older, which the newest stamp tells, and
//! that all of them lie in the scope, which takes a look at every key unless HELD_SLOTS in the header says so: it is the hash of a bitmap
//! that contains the slot of each entry.

use super::marks::ranges;
use super::Owner;
use crate::failpoint::{pass, FailPoint};
use crate::layout::*;
use crate::log::{Effect, Record};
use crate::slots::slot_of;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

pub const SCOPE_BYTES: usize = SLOT_COUNT / 8;

/// True if the slot is one of the scope's.
#[inline]
pub fn in_scope(scope: &[u8], slot: u16) -> bool {
    scope.is_empty() || scope[slot as usize / 8] >> (slot % 8) & 1 == 1
}

/// Never 0, which says that nothing is known.
fn held_hash(slots: &[u8]) -> u64 {
    xxh3_64(slots) | 1
}

impl Owner {
    /// Own only these slots; None: all.
    pub fn set_slots(&mut self, slots: Option<Box<[u8; SCOPE_BYTES]>>) {
        let held = match &slots {
            Some(bits) if self.is_empty() => held_hash(&bits[..]),
            Some(bits) if held_hash(&bits[..]) == self.held_slots => self.held_slots,
            _ => 0,
        };
        self.set_held_slots(held);
        self.slots = slots;
    }

    #[inline]
    pub fn has_slots(&self) -> bool {
        self.slots.is_some()
    }

    fn set_held_slots(&mut self, held: u64) {
        if self.held_slots != held {
            self.held_slots = held;
            self.map.publish(header::HELD_SLOTS, held);
        }
    }

    /// A key is about to be written: to be called before its record is published.
    #[inline]
    pub(super) fn hold_slot(&mut self, key: &[u8]) {
        // Commands are held to the own slots; only replayed records, and an owner that was not told its slots, go beyond.
        if self.held_slots != 0 && (self.slots.is_none() || !self.owns_slot(slot_of(key))) {
            self.set_held_slots(0);
        }
    }

    fn is_empty(&self) -> bool {
        self.walk.is_none() && self.keys == 0 && self.tombstones == 0
    }

    /// FLUSHALL: everything that the shard owns.
    pub fn flush(&mut self) {
        let origin = self.next_origin();
        let scope = self.slots.as_ref().map_or(Vec::new(), |slots| slots.to_vec());
        // The stamp just made is larger than every entry's.
        self.flush_as(origin, &scope, true);
    }

    /// Log a flush and do it. `all_older`: it is known to be newer than everything here.
    fn flush_as(&mut self, origin: Origin, scope: &[u8], all_older: bool) {
        self.log.stage(Record {
            seq: 0,
            stamp: origin.stamp,
            epoch: self.epoch,
            node: origin.node,
            effect: Effect::Flush,
            kind: Kind::String,
            event: 0,
            more: false,
            deadline: 0,
            key: &[],
            value: scope,
        });
        self.log.commit();
        pass(FailPoint::LogPublished);
        self.flush_scope(origin, scope, all_older);
        self.applied();
    }

    /// Delete what lies in the scope and is older. It may have been done in part already.
    pub(super) fn flush_scope(&mut self, origin: Origin, scope: &[u8], all_older: bool) {
        let mut remembered = true;
        if self.buries() {
            let ranges = ranges(scope);
            self.flush_marks.add(&mut self.map, origin, &ranges);
            remembered = self.flush_marks.know(origin, &ranges);
        }
        let all_inside = scope.is_empty() || held_hash(scope) == self.held_slots;
        if all_older && all_inside && remembered {
            self.drop_all();
        } else {
            for bucket in 0..self.index.state.buckets() {
                self.flush_bucket(bucket, origin, scope, !remembered);
            }
        }
        if let (true, Some(slots)) = (self.is_empty(), &self.slots) {
            let held = held_hash(&slots[..]);
            self.set_held_slots(held);
        }
    }

    /// `bury`: the marks have no room for the flush, so its keys are remembered one by one, as by any other deletion.
    fn flush_bucket(&mut self, bucket: u64, origin: Origin, scope: &[u8], bury: bool) {
        let mut words = SmallVec::<[IndexWord; 8]>::new();
        self.index.for_each(&self.map, bucket, |_, word| {
            if self.is_flushed(word, origin, scope) && !(bury && word.is_tombstone()) {
                words.push(word);
            }
        });
        for word in words {
            let Some(found) = self.found_word(bucket, word) else {
                continue;
            };
            let key = bury.then(|| self.key_at(found.offset).to_vec());
            self.unlink(&found);
            if let Some(key) = key {
                self.bury(&key, origin);
            }
        }
    }

    fn is_flushed(&self, word: IndexWord, origin: Origin, scope: &[u8]) -> bool {
        let offset = word.offset();
        let written = Origin {
            stamp: self.map.load(offset.0),
            node: Meta(self.map.load(offset.0 + WORD)).node(),
        };
        written < origin && in_scope(scope, slot_of(self.key_at(offset)))
    }

    /// Replay a flush. `newest` is the largest stamp seen before it. One that would change nothing is not logged again.
    pub(super) fn replay_flush(&mut self, record: &Record, newest: u64) -> bool {
        let all_older = newest < record.stamp;
        if self.buries() {
            // Marks tell what was flushed already, so that a flush does not go round between relays for ever.
            let (origin, ranges) = (record.origin(), ranges(record.value));
            let done =
                self.flush_marks.know(origin, &ranges) || self.flush_marks.are_full_for(origin) && !self.would_flush(record);
            if !done {
                self.flush_as(origin, record.value, all_older);
            }
            return !done;
        }
        if !all_older && !self.would_flush(record) {
            return false;
        }
        self.flush_as(record.origin(), record.value, all_older);
        true
    }

    fn would_flush(&self, record: &Record) -> bool {
        (0..self.index.state.buckets()).any(|bucket| {
            let mut any = false;
            self.index.for_each(&self.map, bucket, |_, word| {
                any = any || !word.is_tombstone() && self.is_flushed(word, record.origin(), record.value);
            });
            any
        })
    }
}
