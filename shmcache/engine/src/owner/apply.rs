//! Applying effect records: our own after a kill (redo), or another host's (replay).

use super::create::OwnError;
use super::recover::reference_offset;
use super::{Owner, Refused};
use crate::index::Found;
use crate::layout::*;
use crate::log::record::{records, Effect, Record};

/// Why replayed records were not all applied.
#[derive(Debug)]
pub enum ApplyError {
    /// Damaged at this byte of the input.
    Corrupt(usize, &'static str),
    Refused(Refused),
    /// The value stands only in the sender's region.
    Reference,
}

impl Owner {
    /// Do again what the log says, on data that may have it already, in part or not at all.
    pub(super) fn redo(&mut self, record: &Record) -> Result<(), OwnError> {
        let refused = |refused: Refused| OwnError::NoSpace(format!("redoing record {}: {refused:?}", record.seq));
        let found = self.index.find(&self.map, self.index.hash(record.key), record.key);
        let newer = found.is_none_or(|found| self.map.load(found.offset.0) < record.stamp);
        match record.effect {
            Effect::Flush => self.drop_all(),
            Effect::Set if newer => {
                let offset = self
                    .new_entry(record.key, Kind::String, record.value, record.deadline)
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
            }
            Effect::Deadline => {
                if let (Some(found), true) = (found, newer) {
                    self.store_deadline(found.place, found.offset, record.deadline, record.stamp);
                }
            }
            Effect::Set | Effect::SetRef => {}
        }
        Ok(())
    }

    /// Replay records; each takes effect only if its stamp is newer than the entry's, and goes to this shard's log then. Returns how many did.
    pub fn apply(&mut self, data: &[u8]) -> Result<u64, ApplyError> {
        self.set_time();
        let mut effective = 0;
        for item in records(data) {
            let (record, _) = item.map_err(|(at, what)| ApplyError::Corrupt(at, what))?;
            effective += self.replay(&record)? as u64;
        }
        Ok(effective)
    }

    fn replay(&mut self, record: &Record) -> Result<bool, ApplyError> {
        let newest = self.last_stamp;
        self.last_stamp = newest.max(record.stamp);
        self.map.store(header::LAST_STAMP, self.last_stamp);
        let found = self.index.find(&self.map, self.index.hash(record.key), record.key);
        let newer = found.is_none_or(|found| self.map.load(found.offset.0) < record.stamp);
        match record.effect {
            Effect::SetRef => return Err(ApplyError::Reference),
            Effect::Flush if newest < record.stamp => self.flush_stamped(record.stamp),
            Effect::Flush => return Ok(self.flush_older(record.stamp)),
            _ if !newer => return Ok(false),
            Effect::Set => {
                let offset = self
                    .new_entry(record.key, Kind::String, record.value, record.deadline)
                    .map_err(ApplyError::Refused)?;
                self.map.store(offset.0, record.stamp);
                self.put_entry(record.key, record.value, offset, record.stamp, record.deadline)
                    .map_err(ApplyError::Refused)?;
            }
            Effect::Delete | Effect::Expired | Effect::Evicted => match found {
                Some(found) => self.erase_stamped(&found, record.effect, record.stamp),
                None => return Ok(false),
            },
            Effect::Deadline => match found {
                Some(found) if found.meta.has_deadline() => {
                    self.log.stage(Record {
                        seq: 0,
                        epoch: self.epoch,
                        more: false,
                        ..*record
                    });
                    self.log.commit();
                    self.store_deadline(found.place, found.offset, record.deadline, record.stamp);
                    self.applied();
                }
                _ => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Delete what is older than a flush that newer writes have overtaken.
    fn flush_older(&mut self, stamp: u64) -> bool {
        let mut old = Vec::new();
        for bucket in 0..self.index.state.buckets() {
            self.index.for_each(&self.map, bucket, |_, word| {
                if self.map.load(word.offset().0) < stamp {
                    old.push(self.key_at(word.offset()).to_vec());
                }
            });
        }
        for key in &old {
            let found: Option<Found> = self.index.find(&self.map, self.index.hash(key), key);
            if let Some(found) = found {
                self.erase_stamped(&found, Effect::Delete, stamp);
            }
        }
        !old.is_empty()
    }
}
