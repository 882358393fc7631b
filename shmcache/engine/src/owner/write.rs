//! Writing: the four steps of every mutation (see the top of `owner`), and making room for them.

use super::{Entry, Owner, Refused};
use crate::clock::next_stamp;
use crate::deadlines::Deadlines;
use crate::failpoint::{pass, FailPoint};
use crate::heap::{Full, Heap};
use crate::index::{Found, Place};
use crate::layout::*;
use crate::log::{Effect, Record};
use smallvec::SmallVec;

impl Owner {
    #[inline]
    pub(super) fn next_stamp(&mut self) -> u64 {
        self.last_stamp = next_stamp(self.last_stamp, self.now_ms);
        self.map.store(header::LAST_STAMP, self.last_stamp);
        self.last_stamp
    }

    /// Stamp and node of a write that is made here.
    #[inline]
    pub(super) fn next_origin(&mut self) -> Origin {
        Origin {
            stamp: self.next_stamp(),
            node: self.node,
        }
    }

    /// Who wrote an entry of the index, and when.
    #[inline]
    pub(super) fn origin_of(&self, found: &Found) -> Origin {
        Origin {
            stamp: self.map.load(found.offset.0),
            node: found.meta.node(),
        }
    }

    /// Give a key this value. `deadline` unix ms, 0 = none. Returns the stamp of the write.
    #[inline]
    pub fn put(&mut self, key: &[u8], kind: Kind, value: &[u8], deadline: u64) -> Result<u64, Refused> {
        let offset = self.new_entry(key, kind, value, deadline, self.node)?;
        let origin = self.next_origin();
        self.map.store(offset.0, origin.stamp);
        if self.group.is_some() {
            self.pend(key, Some(offset), origin, Effect::Set);
            return Ok(origin.stamp);
        }
        if self.slots.is_none() {
            self.hold_slot(key);
        }
        self.put_entry(key, value, offset, origin, deadline)?;
        Ok(origin.stamp)
    }

    /// Steps 2 to 4 for an entry that is written.
    #[inline]
    pub(super) fn put_entry(
        &mut self,
        key: &[u8],
        value: &[u8],
        offset: Offset,
        origin: Origin,
        deadline: u64,
    ) -> Result<(), Refused> {
        let place = match self.place_for(key) {
            Ok(place) => place,
            Err(refused) => {
                self.free_entry(offset);
                return Err(refused);
            }
        };
        self.stage_set(key, value, offset, origin, deadline, false);
        self.log.commit();
        pass(FailPoint::LogPublished);
        self.link(place, key, offset);
        self.applied();
        Ok(())
    }

    /// Steps 1: memory for an entry, filled in but for its stamp.
    pub(super) fn new_entry(
        &mut self,
        key: &[u8],
        kind: Kind,
        value: &[u8],
        deadline: u64,
        node: u16,
    ) -> Result<Offset, Refused> {
        if key.len() > MAX_KEY_BYTES {
            return Err(Refused::KeyTooLong);
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(Refused::ValueTooLong);
        }
        let meta = Meta::new(kind, key.len(), value.len(), deadline != 0).with_node(node);
        let offset = self.allocate(meta.entry_bytes())?;
        self.map.store(offset.0, 0);
        self.map.store(offset.0 + WORD, meta.0);
        if deadline != 0 {
            self.map.store(offset.0 + 2 * WORD, deadline);
        }
        self.map.write(offset.0 + meta.key_at(), key);
        self.map.write(offset.0 + meta.value_at(), value);
        pass(FailPoint::EntryWritten);
        Ok(offset)
    }

    pub(super) fn free_entry(&mut self, offset: Offset) {
        let meta = Meta(self.map.load(offset.0 + WORD));
        self.heap.free(&mut self.map, offset, meta.entry_bytes());
    }

    /// Where the key's word is, or is to be. Nothing can fail after this.
    #[inline]
    pub(super) fn place_for(&mut self, key: &[u8]) -> Result<(Place, Option<Found>), Refused> {
        let hash = self.index.hash(key);
        if let Some(found) = self.index.find(&self.map, hash, key) {
            return Ok((found.place, Some(found)));
        }
        loop {
            match self.index.empty_place(&mut self.map, &mut self.heap, &mut self.hints, hash) {
                Ok(place) => return Ok((place, None)),
                Err(full) => self.make_way(full)?,
            }
        }
    }

    #[inline]
    pub(super) fn stage_set(&mut self, key: &[u8], value: &[u8], offset: Offset, origin: Origin, deadline: u64, more: bool) {
        let record = Record {
            seq: 0,
            stamp: origin.stamp,
            epoch: self.epoch,
            node: origin.node,
            effect: Effect::Set,
            kind: Meta(self.map.load(offset.0 + WORD)).kind(),
            event: self.event,
            more,
            deadline,
            key,
            value,
        };
        if value.len() <= self.log.max_value_bytes() {
            self.log.stage(record);
        } else {
            let mut reference = [0; 16];
            reference[..8].copy_from_slice(&offset.0.to_le_bytes());
            reference[8..].copy_from_slice(&(value.len() as u64).to_le_bytes());
            self.log.stage(Record {
                effect: Effect::SetRef,
                value: &reference,
                ..record
            });
        }
    }

    #[inline]
    pub(super) fn stage_delete(&mut self, key: &[u8], effect: Effect, origin: Origin, more: bool) {
        self.log.stage(Record {
            seq: 0,
            stamp: origin.stamp,
            epoch: self.epoch,
            node: origin.node,
            effect,
            kind: Kind::String,
            event: if effect == Effect::Delete { self.event } else { 0 },
            more,
            deadline: 0,
            key,
            value: &[],
        });
    }

    /// Step 3 for a new value.
    #[inline]
    pub(super) fn link(&mut self, (place, old): (Place, Option<Found>), key: &[u8], offset: Offset) {
        let meta = Meta(self.map.load(offset.0 + WORD));
        let word = IndexWord::entry(tag_of(self.index.hash(key)), offset, meta);
        self.index.swing(&mut self.map, place, word);
        if meta.has_deadline() {
            self.deadlines.note(place.bucket, self.map.load(offset.0 + 2 * WORD));
        }
        self.collection_linked(place.bucket, old.map(|old| (old.offset, old.meta)), offset, meta);
        match old {
            Some(old) => {
                self.heap.free(&mut self.map, old.offset, old.meta.entry_bytes());
                pass(FailPoint::EntryFreed);
                if old.meta.is_tombstone() == meta.is_tombstone() && old.meta.is_part() == meta.is_part() {
                    self.evictor.touch(&self.hints, self.index.mark_at(place.at));
                } else {
                    self.entry_removed(place.bucket, old.meta);
                    self.entry_added(place.bucket, meta);
                    self.evictor.mark_new(&self.hints, self.index.mark_at(place.at));
                }
            }
            None => {
                self.entry_added(place.bucket, meta);
                self.evictor.mark_new(&self.hints, self.index.mark_at(place.at));
                // Tombstones are linked in the middle of walks over a bucket, which must not be split then.
                if !meta.is_tombstone() {
                    self.grow_index();
                }
            }
        }
        self.turn_clock();
    }

    /// Split as many buckets as the new key asks for. Without memory the chains get longer until there is some.
    #[inline]
    pub(super) fn grow_index(&mut self) {
        for _ in 0..2 {
            if !self.index.wants_split(self.keys + self.tombstones + self.parts) {
                return;
            }
            let (old, new) = (self.index.state.split(), self.index.state.buckets());
            if self.used_bytes() + BUCKET_BYTES + WORD > self.memory_limit() {
                return;
            }
            let Ok(moved) = self.index.split(&mut self.map, &mut self.heap, &mut self.hints) else {
                return;
            };
            self.entries_moved(old, moved);
            self.deadlines.inherit(old, new);
        }
    }

    /// Step 4.
    #[inline]
    pub(super) fn applied(&mut self) {
        self.map.publish(header::APPLIED_SEQ, self.log.seq);
        self.map.publish(header::APPLIED_POSITION, self.log.head());
        pass(FailPoint::Applied);
    }

    /// Delete a key. False if there is none.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        if self.lookup(key).is_none() {
            return false;
        }
        if self.group.is_some() {
            let origin = self.next_origin();
            self.pend(key, None, origin, Effect::Delete);
            return true;
        }
        let hash = self.index.hash(key);
        if let Some(found) = self.index.find(&self.map, hash, key) {
            self.erase(&found, Effect::Delete);
        }
        true
    }

    /// Delete an entry of the index, for the reason that the log will tell.
    pub(super) fn erase(&mut self, found: &Found, effect: Effect) {
        let origin = self.next_origin();
        self.erase_as(found, effect, origin, self.buries());
    }

    /// `bury`: leave a tombstone.
    pub(super) fn erase_as(&mut self, found: &Found, effect: Effect, origin: Origin, bury: bool) {
        let key = SmallVec::<[u8; 64]>::from_slice(self.key_at(found.offset));
        self.stage_delete(&key, effect, origin, false);
        self.log.commit();
        pass(FailPoint::LogPublished);
        match effect {
            Effect::Expired => self.counters.expired += 1,
            Effect::Evicted => self.counters.evicted += 1,
            _ => {}
        }
        self.unlink(found);
        if bury {
            self.bury(&key, origin);
        }
        self.applied();
    }

    pub(super) fn unlink(&mut self, found: &Found) {
        self.index.swing(&mut self.map, found.place, IndexWord::EMPTY);
        self.collection_unlinked(found.place.bucket, found.offset, found.meta);
        self.heap.free(&mut self.map, found.offset, found.meta.entry_bytes());
        pass(FailPoint::EntryFreed);
        self.entry_removed(found.place.bucket, found.meta);
        self.index
            .trim(&mut self.map, &mut self.heap, &self.hints, found.place.bucket);
    }

    /// Change a live entry's deadline (unix ms, 0 = none).
    pub fn set_deadline(&mut self, key: &[u8], entry: &Entry, deadline: u64) -> Result<(), Refused> {
        if deadline == 0 && !entry.meta.has_deadline() {
            return Ok(());
        }
        // Among several writers a deadline travels with its value: another node may have the deadline's record but an older or newer value.
        // (A stale entry is replaced as well, for it is no longer what the full sync will find or miss.)
        let in_place =
            entry.meta.has_deadline() && deadline != 0 && self.group.is_none() && self.node == 0 && !entry.meta.is_stale();
        if !in_place {
            let kind = entry.meta.kind();
            let value = self.value(entry).to_vec();
            return self.put(key, kind, &value, deadline).map(|_| ());
        }
        let origin = self.next_origin();
        let place = entry.place.expect("no group is open");
        self.change_deadline(key, place, entry.offset, deadline, origin);
        Ok(())
    }

    /// Steps 2 to 4 of a deadline that changes in place.
    pub(super) fn change_deadline(&mut self, key: &[u8], place: Place, offset: Offset, deadline: u64, origin: Origin) {
        self.change_in_place(key, Kind::String, place, offset, Some(deadline), origin);
    }

    /// Steps 2 to 4 of a new stamp for the root of a large collection, which says that its parts have changed.
    pub(super) fn change_root(&mut self, key: &[u8], found: &Found, origin: Origin) {
        self.change_in_place(key, found.meta.kind(), found.place, found.offset, None, origin);
        self.evictor.touch(&self.hints, self.index.mark_at(found.place.at));
    }

    /// An entry's new stamp, and deadline if it gets one; its value stays.
    fn change_in_place(&mut self, key: &[u8], kind: Kind, place: Place, offset: Offset, deadline: Option<u64>, origin: Origin) {
        self.log.stage(Record {
            seq: 0,
            stamp: origin.stamp,
            epoch: self.epoch,
            node: origin.node,
            effect: match deadline {
                Some(_) => Effect::Deadline,
                None => Effect::Changed,
            },
            kind,
            event: self.event,
            more: false,
            deadline: deadline.unwrap_or(0),
            key,
            value: &[],
        });
        self.log.commit();
        pass(FailPoint::LogPublished);
        self.store_stamp(place, offset, deadline, origin);
        self.applied();
    }

    /// Step 3 of what changes an entry in place.
    pub(super) fn store_stamp(&mut self, place: Place, offset: Offset, deadline: Option<u64>, origin: Origin) {
        let meta = Meta(self.map.load(offset.0 + WORD)).with_node(origin.node);
        self.index.begin_change(&mut self.map, place.bucket);
        if let Some(deadline) = deadline {
            self.map.store(offset.0 + 2 * WORD, deadline);
            pass(FailPoint::DeadlineStored);
        }
        self.map.publish(offset.0 + WORD, meta.0);
        pass(FailPoint::NodeStored);
        // The stamp last: a redo that finds it done has nothing left to do.
        self.map.publish(offset.0, origin.stamp);
        pass(FailPoint::StampStored);
        self.index.end_change(&mut self.map, place.bucket);
        if let Some(deadline) = deadline {
            self.deadlines.note(place.bucket, deadline);
        }
    }

    pub(super) fn drop_all(&mut self) {
        self.index.flush(&mut self.map);
        self.heap.clear(&mut self.map);
        self.keys = 0;
        self.tombstones = 0;
        self.parts = 0;
        self.collections.clear();
        self.walk = None;
        self.deadlines = Deadlines::new(self.map.load(header::CREATED_MS), self.index.state.buckets(), true);
        self.evictor.forget();
    }

    // ------------------------------------------------------------ memory

    /// Memory for an entry of `bytes`; evicts what the policy lets it.
    #[inline]
    pub(super) fn allocate(&mut self, bytes: u64) -> Result<Offset, Refused> {
        let needed = Heap::footprint(bytes);
        let limit = self.memory_limit();
        if needed > limit {
            return Err(Refused::OutOfMemory);
        }
        // A new key may need an overflow bucket as well.
        while self.used_bytes() + needed + BUCKET_BYTES > limit {
            if !self.evict_one() {
                return Err(Refused::OutOfMemory);
            }
        }
        loop {
            match self.heap.allocate(&mut self.map, bytes) {
                Ok(offset) => return Ok(offset),
                Err(full) => self.make_way(full)?,
            }
        }
    }

    /// There are no pages: empty a sparse slab, else evict.
    pub(super) fn make_way(&mut self, full: Full) -> Result<(), Refused> {
        if self.walk.is_some() {
            // There may be free memory that is not known yet. A damaged region is found and told by `tick`.
            if self.finish_walk().is_ok() {
                return Ok(());
            }
        }
        if (self.walk.is_none() && self.compact()) || self.evict_one() {
            return Ok(());
        }
        Err(match full {
            Full::Limit => Refused::OutOfMemory,
            Full::System => Refused::NoSpace,
        })
    }
}
