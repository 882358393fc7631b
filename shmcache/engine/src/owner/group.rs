//! Groups: several writes that take effect together, also through a kill.
//!
//! While a group is open its writes go to an overlay that only the owner's own lookups see: entries are written in the heap
//! but no index word points at them. Commit publishes all records in one store and then links; a kill before that leaves nothing, a kill
//! after it is redone from the log.

use super::{Owner, Refused};
use crate::failpoint::{pass, FailPoint};
use crate::layout::*;
use crate::log::record::record_bytes;
use crate::log::Effect;
use crate::parts::is_part_key;
use std::collections::HashMap;

/// Writes of one command above this are not made one group.
const MANY: usize = 1000;

/// A write that waits for its group's commit.
#[derive(Clone, Copy)]
pub struct Pending {
    /// None: the key is deleted.
    pub offset: Option<Offset>,
    pub origin: Origin,
    /// What the log will call it.
    pub effect: Effect,
    event: u8,
}

/// A key and what is done to it.
pub type Write = (Vec<u8>, Pending);

#[derive(Default)]
pub struct Group {
    pending: HashMap<Vec<u8>, Pending>,
    /// While a command of several writes runs inside the group: what each of its writes replaced, so that all can be taken back.
    undo: Option<Vec<(Vec<u8>, Option<Pending>)>>,
}

impl Group {
    /// What the open group did to the key: None nothing, Some(None) deleted it.
    pub fn get(&self, key: &[u8]) -> Option<Option<Offset>> {
        self.pending.get(key).map(|pending| pending.offset)
    }

    pub fn pending(&self, key: &[u8]) -> Option<Pending> {
        self.pending.get(key).copied()
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.pending.contains_key(key)
    }
}

impl Owner {
    pub fn in_group(&self) -> bool {
        self.group.is_some()
    }

    pub fn open_group(&mut self) {
        debug_assert!(self.group.is_none());
        self.group = Some(Group::default());
    }

    /// Run `writes` as one group (or as part of the one that is open). If it fails nothing of it is done.
    pub fn grouped<T, E: From<Refused>>(&mut self, writes: impl FnOnce(&mut Owner) -> Result<T, E>) -> Result<T, E> {
        if self.in_group() {
            return self.nested(writes);
        }
        self.open_group();
        match writes(self) {
            Ok(value) => {
                self.commit_group()?;
                Ok(value)
            }
            Err(error) => {
                self.abandon_group();
                Err(error)
            }
        }
    }

    /// `count` writes to one collection, as one group if the log has room for it (else a kill may leave some of them). `writes` may be run twice.
    pub fn several<T, E: From<Refused>>(
        &mut self,
        count: usize,
        mut writes: impl FnMut(&mut Owner) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.in_group() {
            return self.nested(writes);
        }
        if count <= 1 || count > MANY {
            return writes(self);
        }
        self.open_group();
        match writes(self) {
            Err(error) => {
                self.abandon_group();
                Err(error)
            }
            Ok(value) => match self.commit_group() {
                Ok(()) => Ok(value),
                Err(Refused::GroupTooLarge) => writes(self),
                Err(refused) => Err(refused.into()),
            },
        }
    }

    /// `writes` that are no group by themselves: in an open group all of them are done or none.
    pub fn within<T, E>(&mut self, writes: impl FnOnce(&mut Owner) -> Result<T, E>) -> Result<T, E> {
        if self.in_group() {
            self.nested(writes)
        } else {
            writes(self)
        }
    }

    /// `writes` inside the open group: if they fail the group is as it was before them. Inside others of this kind they are part of those, which
    /// must fail with them.
    fn nested<T, E>(&mut self, writes: impl FnOnce(&mut Owner) -> Result<T, E>) -> Result<T, E> {
        let group = self.group.as_mut().expect("a group is open");
        if group.undo.is_some() {
            return writes(self);
        }
        group.undo = Some(Vec::new());
        let result = writes(self);
        let undo = self.group.as_mut().and_then(|group| group.undo.take()).unwrap_or_default();
        for (key, before) in undo.into_iter().rev() {
            if result.is_err() {
                self.reorder_back(&key, before);
            }
            let superfluous = match (&result, before, &mut self.group) {
                (Err(_), Some(before), Some(group)) => group.pending.insert(key, before),
                (Err(_), None, Some(group)) => group.pending.remove(&key),
                (_, before, _) => before,
            };
            self.free_pending(superfluous);
        }
        result
    }

    fn free_pending(&mut self, pending: Option<Pending>) {
        if let Some(Pending {
            offset: Some(offset), ..
        }) = pending
        {
            self.free_entry(offset);
        }
    }

    pub(super) fn pend(&mut self, key: &[u8], offset: Option<Offset>, origin: Origin, effect: Effect) {
        if is_part_key(key) {
            // A walk that is still under way would find again what the group deletes.
            let _ = self.finish_walk();
            let seen = self.visible(key);
            self.collections
                .reorder(&self.map, seen.map(|at| at.0), offset.map(|at| at.0), self.now_ms);
        }
        let group = self.group.as_mut().expect("a group is open");
        let before = group.pending.insert(
            key.to_vec(),
            Pending {
                offset,
                origin,
                effect,
                event: self.event,
            },
        );
        match &mut group.undo {
            Some(undo) => undo.push((key.to_vec(), before)),
            None => self.free_pending(before),
        }
    }

    /// The entry of a key as the group sees it.
    pub(super) fn visible(&self, key: &[u8]) -> Option<Offset> {
        match self.group.as_ref().and_then(|group| group.get(key)) {
            Some(offset) => offset,
            None => self.linked(key),
        }
    }

    fn linked(&self, key: &[u8]) -> Option<Offset> {
        self.index
            .find(&self.map, self.index.hash(key), key)
            .map(|found| found.offset)
    }

    /// What the group did to a part is taken back to what it was before.
    fn reorder_back(&mut self, key: &[u8], before: Option<Pending>) {
        if is_part_key(key) {
            let to = before.map_or_else(|| self.linked(key), |pending| pending.offset);
            let from = self.visible(key);
            self.collections
                .reorder(&self.map, from.map(|at| at.0), to.map(|at| at.0), self.now_ms);
        }
    }

    pub fn abandon_group(&mut self) {
        let keys: Vec<Vec<u8>> = match &self.group {
            Some(group) => group.pending.keys().filter(|key| is_part_key(key)).cloned().collect(),
            None => return,
        };
        for key in keys {
            self.reorder_back(&key, None);
        }
        if let Some(group) = self.group.take() {
            for pending in group.pending.into_values() {
                self.free_pending(Some(pending));
            }
        }
    }

    /// Make the open group's writes real, all or none.
    pub fn commit_group(&mut self) -> Result<(), Refused> {
        self.check_group()?;
        let Some(group) = self.group.take() else { return Ok(()) };
        let writes = self.in_order(group.pending.into_iter());
        if writes.is_empty() {
            return Ok(());
        }
        self.stage_writes(&writes);
        self.log.commit();
        pass(FailPoint::GroupLogged);
        self.link_writes(writes);
        Ok(())
    }

    /// See that nothing can refuse the open group's commit any more; else it is abandoned.
    pub(super) fn check_group(&mut self) -> Result<(), Refused> {
        // Room for the overflow buckets that the new keys may need: nothing may fail once the log has the group.
        // (The group stays open meanwhile, so that making room does not evict what it is about to change.)
        let pending = self.group.as_ref().map_or(0, |group| group.pending.len());
        let checked = self.reserve_buckets(pending).and_then(|()| {
            if self.group_bytes() > self.log.max_group_bytes() {
                return Err(Refused::GroupTooLarge);
            }
            Ok(())
        });
        if checked.is_err() {
            self.abandon_group();
        }
        checked
    }

    /// What the open group is to do.
    pub(super) fn group_writes(&self) -> Vec<Write> {
        let pending = self.group.iter().flat_map(|group| &group.pending);
        self.in_order(pending.map(|(key, pending)| (key.clone(), *pending)))
    }

    /// Writes in the order of their stamps, without what changes nothing.
    fn in_order(&self, writes: impl Iterator<Item = Write>) -> Vec<Write> {
        let mut writes: Vec<Write> = writes.collect();
        writes.sort_unstable_by_key(|(_, pending)| pending.origin);
        writes.retain(|(key, pending)| pending.offset.is_some() || self.buries() || self.linked(key).is_some());
        writes
    }

    /// Encode the records of a group.
    pub(super) fn stage_writes(&mut self, writes: &[Write]) {
        if self.slots.is_none() {
            writes.iter().for_each(|(key, _)| self.hold_slot(key));
        }
        let event = self.event;
        for (index, (key, pending)) in writes.iter().enumerate() {
            let more = index + 1 < writes.len();
            self.event = pending.event;
            match pending.offset {
                Some(offset) => {
                    let meta = Meta(self.map.load(offset.0 + WORD));
                    let deadline = self.deadline_at(offset, meta);
                    // The slice borrows the map only, but the method takes all of self: copy. Groups are not the hot path.
                    let value = self.map.slice(offset.0 + meta.value_at(), meta.value_bytes()).to_vec();
                    self.stage_set(key, &value, offset, pending.origin, deadline, more);
                }
                None => self.stage_delete(key, pending.effect, pending.origin, more),
            }
        }
        self.event = event;
    }

    /// Link what the log has.
    pub(super) fn link_writes(&mut self, writes: Vec<Write>) {
        self.committing = true;
        for (key, pending) in writes {
            let hash = self.index.hash(&key);
            match pending.offset {
                Some(offset) => {
                    let place = self.place_for(&key).expect("buckets are reserved");
                    self.link(place, &key, offset);
                }
                None => {
                    if let Some(found) = self.index.find(&self.map, hash, &key) {
                        self.unlink(&found);
                    }
                    if self.buries() {
                        self.bury(&key, pending.origin);
                    }
                }
            }
            pass(FailPoint::GroupHalfApplied);
        }
        self.committing = false;
        self.applied();
    }

    /// What the open group takes in the log.
    fn group_bytes(&self) -> u64 {
        let writes = self.group.iter().flat_map(|group| &group.pending);
        writes
            .map(|(key, pending)| record_bytes(key.len(), pending.offset.map_or(0, |offset| self.logged_bytes(offset))))
            .sum()
    }

    fn logged_bytes(&self, offset: Offset) -> usize {
        let value = Meta(self.map.load(offset.0 + WORD)).value_bytes() as usize;
        if value <= self.log.max_value_bytes() {
            value
        } else {
            16
        }
    }

    fn reserve_buckets(&mut self, count: usize) -> Result<(), Refused> {
        loop {
            match self.heap.reserve_buckets(&mut self.map, count as u64) {
                Ok(()) => return Ok(()),
                Err(full) => self.make_way(full)?,
            }
        }
    }
}
