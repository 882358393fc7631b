//! Replay: applying the effect records of another host, each only if it is newer than what is here. They keep their origin, in the entry
//! and in this shard's own log. A group takes effect as a group.

use super::{Entry, Owner, Refused};
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

impl From<Refused> for ApplyError {
    fn from(refused: Refused) -> ApplyError {
        ApplyError::Refused(refused)
    }
}

impl Owner {
    /// Replay records; each takes effect only if it is newer than the entry, and goes to this shard's log then. Returns how many did.
    pub fn apply(&mut self, data: &[u8]) -> Result<u64, ApplyError> {
        self.set_time();
        let effective = self.replay_all(data);
        self.event = 0;
        self.publish_gauges();
        effective
    }

    fn replay_all(&mut self, data: &[u8]) -> Result<u64, ApplyError> {
        let mut effective = 0;
        let mut group: Vec<Record> = Vec::new();
        let mut start = 0;
        for item in records(data) {
            let (record, end) = item.map_err(|(at, what)| ApplyError::Corrupt(at, what))?;
            let single = !record.more && group.is_empty();
            check(&record, start, single)?;
            start = end;
            if single {
                effective += self.replay(&record)? as u64;
                continue;
            }
            let last = !record.more;
            group.push(record);
            if last {
                effective += self.replay_group(&group)?;
                group.clear();
            }
        }
        if !group.is_empty() {
            return Err(ApplyError::Corrupt(start, "the records end in the middle of a group"));
        }
        Ok(effective)
    }

    /// Stamps made here are larger than all that were seen.
    #[inline]
    fn see_stamp(&mut self, stamp: u64) {
        if stamp > self.last_stamp {
            self.last_stamp = stamp;
            self.map.store(header::LAST_STAMP, stamp);
        }
    }

    fn replay(&mut self, record: &Record) -> Result<bool, ApplyError> {
        self.event = record.event;
        let newest = self.last_stamp;
        self.see_stamp(record.stamp);
        if record.effect == Effect::Flush {
            return Ok(self.replay_flush(record, newest));
        }
        let origin = record.origin();
        if self.comes_too_late(record) {
            return Ok(false);
        }
        let found = self.index.find(&self.map, self.index.hash(record.key), record.key);
        if let Some(found) = &found {
            if self.confirms(found, record) {
                self.clear_stale(found);
                return Ok(false);
            }
            if !self.gives_way(found, record) {
                return Ok(false);
            }
        }
        match record.effect {
            Effect::Set => {
                let overruled = found.is_some_and(|found| self.overrules(&found, origin));
                let offset = self.new_entry(record.key, record.kind, record.value, record.deadline, record.node)?;
                self.map.store(offset.0, record.stamp);
                if overruled {
                    let origin = self.next_origin();
                    self.stage_delete(record.key, Effect::Delete, origin, false);
                    self.log.commit();
                }
                self.hold_slot(record.key);
                self.put_entry(record.key, record.value, offset, origin, record.deadline)?;
            }
            Effect::Delete | Effect::Expired | Effect::Evicted => match found {
                Some(found) if self.overrules(&found, origin) => self.erase(&found, record.effect),
                Some(found) => self.erase_as(&found, record.effect, origin, self.buries()),
                None => return Ok(self.buries() && self.bury_unknown(record)),
            },
            Effect::Deadline => match found {
                Some(found) if found.meta.has_deadline() && !found.meta.is_tombstone() => {
                    self.change_deadline(record.key, found.place, found.offset, record.deadline, origin);
                }
                _ => return Ok(false),
            },
            Effect::Changed => match found {
                Some(found) if self.is_large_root(&found) => self.change_root(record.key, &found, origin),
                _ => return Ok(false),
            },
            Effect::Flush | Effect::SetRef => unreachable!("handled above, or refused by `check`"),
        }
        Ok(true)
    }

    /// True if the key's slot was flushed after the record was made.
    #[inline]
    fn comes_too_late(&self, record: &Record) -> bool {
        self.node != 0 && self.flush_marks.refuse(record.key, record.origin())
    }

    /// True if an entry yields to a record of its key: it is older, or stale and thereby worth nothing.
    #[inline]
    fn gives_way(&self, found: &Found, record: &Record) -> bool {
        if found.meta.is_stale() {
            !record.effect.keeps_value()
        } else {
            self.origin_of(found) < record.origin()
        }
    }

    /// True if a stale entry is what the sync says the key has. The stamp alone does not say so: two primaries, of which one was replaced and did
    /// not know it, may have given the same one to different values.
    #[inline]
    fn confirms(&self, found: &Found, record: &Record) -> bool {
        if !found.meta.is_stale() || record.effect != Effect::Set || self.origin_of(found) != record.origin() {
            return false;
        }
        let entry = Entry {
            offset: found.offset,
            meta: found.meta,
            place: None,
        };
        entry.meta.kind_code() == record.kind as u8
            && self.value(&entry) == record.value
            && self.deadline(&entry) == record.deadline
    }

    /// A stale entry loses also to an older record. To readers of the own log an older record says nothing, so they are told of a new deletion first.
    /// (Not where there are several writers: there it would take other nodes' newer writes with it.)
    fn overrules(&self, found: &Found, origin: Origin) -> bool {
        self.node == 0 && found.meta.is_stale() && self.origin_of(found) >= origin
    }

    // ------------------------------------------------------------ groups

    /// Replay a group whole, in one group of the own log; record by record if that log is too small for it.
    fn replay_group(&mut self, group: &[Record]) -> Result<u64, ApplyError> {
        self.open_group();
        let mut effective = 0;
        for record in group {
            match self.replay_in_group(record) {
                Ok(done) => effective += done as u64,
                Err(error) => {
                    self.abandon_group();
                    return Err(error);
                }
            }
        }
        match self.commit_group() {
            Ok(()) => Ok(effective),
            Err(Refused::GroupTooLarge) => group.iter().try_fold(0, |sum, record| Ok(sum + self.replay(record)? as u64)),
            Err(refused) => Err(refused.into()),
        }
    }

    fn replay_in_group(&mut self, record: &Record) -> Result<bool, ApplyError> {
        self.event = record.event;
        self.see_stamp(record.stamp);
        let origin = record.origin();
        if self.comes_too_late(record) {
            return Ok(false);
        }
        let pending = self.group.as_ref().and_then(|group| group.pending(record.key));
        let found = self.index.find(&self.map, self.index.hash(record.key), record.key);
        match (&pending, &found) {
            (Some(pending), _) if pending.origin >= origin => return Ok(false),
            (None, Some(found)) if self.confirms(found, record) => {
                self.clear_stale(found);
                return Ok(false);
            }
            (None, Some(found)) if !self.gives_way(found, record) => return Ok(false),
            (None, Some(found)) if self.overrules(found, origin) => self.erase(found, Effect::Delete),
            _ => {}
        }
        match record.effect {
            Effect::Set => {
                let offset = self.new_entry(record.key, record.kind, record.value, record.deadline, record.node)?;
                self.map.store(offset.0, record.stamp);
                self.hold_slot(record.key);
                self.pend(record.key, Some(offset), origin, Effect::Set);
            }
            Effect::Delete | Effect::Expired | Effect::Evicted => {
                let there = pending.map_or(found.is_some(), |pending| pending.offset.is_some());
                if self.buries() {
                    self.hold_slot(record.key);
                }
                self.pend(record.key, None, origin, record.effect);
                return Ok(there || self.buries());
            }
            Effect::Deadline | Effect::Changed => {
                let offset = match pending {
                    Some(pending) => pending.offset,
                    None => found.filter(|found| !found.meta.is_tombstone()).map(|found| found.offset),
                };
                let Some(offset) = offset else { return Ok(false) };
                let entry = Entry {
                    offset,
                    meta: Meta(self.map.load(offset.0 + WORD)),
                    place: None,
                };
                let kind = entry.meta.kind();
                let value = self.value(&entry).to_vec();
                let deadline = match record.effect {
                    Effect::Changed => self.deadline(&entry),
                    _ => record.deadline,
                };
                let offset = self.new_entry(record.key, kind, &value, deadline, record.node)?;
                self.map.store(offset.0, record.stamp);
                self.pend(record.key, Some(offset), origin, Effect::Set);
            }
            Effect::Flush | Effect::SetRef => unreachable!("refused by `check`"),
        }
        Ok(true)
    }
}

/// What no owner writes, and what cannot be applied.
#[inline]
fn check(record: &Record, at: usize, single: bool) -> Result<(), ApplyError> {
    if record.kind == Kind::Tombstone {
        return Err(ApplyError::Corrupt(at, "its value is a tombstone"));
    }
    match record.effect {
        Effect::SetRef => Err(ApplyError::Reference),
        Effect::Flush if !single => Err(ApplyError::Corrupt(at, "a flush cannot be part of a group")),
        Effect::Flush if !matches!(record.value.len(), 0 | super::flush::SCOPE_BYTES) => {
            Err(ApplyError::Corrupt(at, "the scope of its flush is no slot bitmap"))
        }
        _ => Ok(()),
    }
}
