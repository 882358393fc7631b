//! Replay: applying the effect records of another host, each only if it is newer than what is here. They keep their origin, in the entry
//! and in this shard's own log.

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
        if record.node > MAX_NODE {
            return Err(ApplyError::Corrupt(0, "its node is above 511"));
        }
        let origin = record.origin();
        let found = self.index.find(&self.map, self.index.hash(record.key), record.key);
        match record.effect {
            Effect::SetRef => return Err(ApplyError::Reference),
            Effect::Flush if newest < record.stamp => self.flush_as(origin),
            Effect::Flush => return Ok(self.flush_older(origin)),
            _ if found.is_some_and(|found| !self.gives_way(&found, record)) => return Ok(false),
            Effect::Set => {
                let offset = self
                    .new_entry(record.key, Kind::String, record.value, record.deadline, record.node)
                    .map_err(ApplyError::Refused)?;
                self.map.store(offset.0, record.stamp);
                self.put_entry(record.key, record.value, offset, origin, record.deadline)
                    .map_err(ApplyError::Refused)?;
            }
            Effect::Delete | Effect::Expired | Effect::Evicted => match found {
                Some(found) => self.erase_as(&found, record.effect, origin),
                None => return Ok(false),
            },
            Effect::Deadline => match found {
                Some(found) if found.meta.has_deadline() => {
                    self.change_deadline(record.key, found.place, found.offset, record.deadline, origin);
                }
                _ => return Ok(false),
            },
        }
        Ok(true)
    }

    /// True if an entry yields to a record of its key: it is older, or stale and thereby worth nothing.
    #[inline]
    fn gives_way(&self, found: &Found, record: &Record) -> bool {
        if found.meta.is_stale() {
            record.effect != Effect::Deadline
        } else {
            self.origin_of(found) < record.origin()
        }
    }

    /// Delete what is older than a flush that newer writes have overtaken.
    fn flush_older(&mut self, flush: Origin) -> bool {
        let mut old = Vec::new();
        for bucket in 0..self.index.state.buckets() {
            self.index.for_each(&self.map, bucket, |_, word| {
                let node = Meta(self.map.load(word.offset().0 + WORD)).node();
                let stamp = self.map.load(word.offset().0);
                if (Origin { stamp, node }) < flush {
                    old.push(self.key_at(word.offset()).to_vec());
                }
            });
        }
        for key in &old {
            let found: Option<Found> = self.index.find(&self.map, self.index.hash(key), key);
            if let Some(found) = found {
                self.erase_as(&found, Effect::Delete, flush);
            }
        }
        !old.is_empty()
    }
}
