//! Redo: doing again, after a kill, what the log says and the data may have already, in part or not at all.

use super::create::OwnError;
use super::Owner;
use crate::layout::*;
use crate::log::record::{Effect, Record};

impl Owner {
    /// A record of our own log was found good when it was written, so it is done unless the entry says that it was.
    pub(super) fn redo(&mut self, record: &Record) -> Result<(), OwnError> {
        let refused = |refused: super::Refused| OwnError::NoSpace(format!("redoing record {}: {refused:?}", record.seq));
        let origin = record.origin();
        let found = self.index.find(&self.map, self.index.hash(record.key), record.key);
        let newer = found.is_none_or(|found| self.origin_of(&found) < origin);
        match record.effect {
            Effect::Flush => {
                // With several nodes another's entry may have the very stamp: then each is looked at.
                let all_older = record.node == 0 && self.last_stamp <= record.stamp;
                self.flush_scope(origin, record.value, all_older);
            }
            Effect::Set if newer => {
                let offset = self
                    .new_entry(record.key, record.kind, record.value, record.deadline, record.node)
                    .map_err(refused)?;
                self.map.store(offset.0, record.stamp);
                let place = self.place_for(record.key).map_err(refused)?;
                self.link(place, record.key, offset);
            }
            Effect::SetRef if newer => {
                let offset = reference_offset(record.value);
                let bytes = Meta(self.map.load(offset.0 + WORD)).entry_bytes();
                // Written, but linked by nothing that the walk could find in a bucket it has passed.
                self.heap.adopt(offset, bytes);
                let place = self.place_for(record.key).map_err(refused)?;
                self.link(place, record.key, offset);
            }
            Effect::Delete | Effect::Expired | Effect::Evicted => {
                if let (Some(found), true) = (found, newer) {
                    self.unlink(&found);
                }
                // A sweep of stale entries buries none.
                if newer && self.buries() && !found.is_some_and(|found| found.meta.is_stale()) {
                    self.bury(record.key, origin);
                }
            }
            Effect::Deadline => {
                if let (Some(found), true) = (found, newer) {
                    self.store_stamp(found.place, found.offset, Some(record.deadline), origin);
                }
            }
            Effect::Changed => {
                if let (Some(found), true) = (found, newer) {
                    self.store_stamp(found.place, found.offset, None, origin);
                }
            }
            Effect::Set | Effect::SetRef => {}
        }
        Ok(())
    }
}

/// Where a SetRef record's entry lies.
fn reference_offset(value: &[u8]) -> Offset {
    Offset(u64::from_le_bytes(value[..8].try_into().expect("a reference has 16 bytes")))
}
