//! Prepared groups: this shard's part of a transaction over several shards, ready to be committed and not yet.
//!
//! The records of a prepared group are in the ring, behind the log's head, where nobody reads; words of the header say so. To commit it is one store that
//! moves the head, and then what follows any group's commit; to abandon it is to forget it. In between the owner does nothing else.
//!
//! All shards of a transaction end the same way because one of them, the *decider*, decides: its own commit says for each other shard which transaction it
//! committed. T is the transaction's token, j another shard that holds T:
//! ```text
//! decider                                            who asks for shard j
//! DECISIONS[j] = T, for each j        (relaxed)      PREPARED_TOKEN (acquire)  -- pairs with [D]
//! log head = behind the group         (release)      == T: not decided yet
//! PREPARED_TOKEN = 0                  (release) [D]  else: committed if DECISIONS[j] == T
//! ```
//! DECISIONS[j] stays until it was asked for: before it knows, shard j takes part in nothing else. A decider that is killed in between leaves PREPARED_TOKEN
//! as it is; its successor looks at the log's head, and takes the decisions back if it has not moved, before it clears the token. Without
//! writes of its own the decider has no head to move; then clearing the token decides.
//!
//! A killed participant's successor asks before it attaches, and is told the answer (`Owner::attach`): so a group that was prepared outlives its owner.

use super::group::Write;
use super::{Owner, Refused};
use crate::failpoint::{pass, FailPoint};
use crate::layout::*;
use crate::log::LogWriter;
use crate::memory::{object_bytes, OwnerMap, ReaderMap, SharedMap};
use crate::sync::Ordering;
use std::io;
use std::os::fd::BorrowedFd;

/// What this owner holds for a transaction.
pub struct Prepared {
    token: u64,
    writes: Vec<Write>,
    /// The log's end once it is committed.
    end: u64,
    /// The log's last sequence number before it.
    seq: u64,
}

impl Owner {
    /// Token of the prepared group; 0 = there is none.
    pub fn prepared(&self) -> u64 {
        self.prepared.as_ref().map_or(0, |prepared| prepared.token)
    }

    /// Make the open group one that can be committed whatever happens. If that is refused, nothing of it is done.
    pub fn prepare_group(&mut self, token: u64, decider: u64) -> Result<(), Refused> {
        self.check_group()?;
        let (writes, seq) = (self.group_writes(), self.log.seq);
        let head = self.log.head();
        let end = if writes.is_empty() {
            head
        } else {
            self.stage_writes(&writes);
            self.log.write()
        };
        pass(FailPoint::PreparedWritten);
        self.map.store(header::PREPARED_DECIDER, decider);
        self.map.store(header::PREPARED_FROM, head);
        self.map.store(header::PREPARED_TO, end);
        self.map.publish(header::PREPARED_TOKEN, token);
        self.prepared = Some(Prepared { token, writes, end, seq });
        pass(FailPoint::GroupPrepared);
        Ok(())
    }

    /// Commit the prepared group; as its decider, for these other shards as well.
    pub fn commit_prepared(&mut self, shards: &[u64]) {
        let Some(prepared) = self.prepared.take() else { return };
        for shard in shards {
            self.map.store(decision(*shard), prepared.token);
            pass(FailPoint::DecisionNoted);
        }
        // Its entries are linked below.
        self.group = None;
        if !prepared.writes.is_empty() {
            self.log.publish(prepared.end);
            pass(FailPoint::PreparedPublished);
        }
        self.map.publish(header::PREPARED_TOKEN, 0);
        if !prepared.writes.is_empty() {
            self.link_writes(prepared.writes);
        }
    }

    /// Forget the prepared group.
    pub fn abandon_prepared(&mut self) {
        let Some(prepared) = self.prepared.take() else { return };
        self.map.publish(header::PREPARED_TOKEN, 0);
        self.log.seq = prepared.seq;
        self.abandon_group();
    }
}

fn decision(shard: u64) -> u64 {
    header::DECISIONS + shard % header::DECISION_COUNT * WORD
}

/// End what a former owner had prepared, before its log is redone; `commit`: as its decider has decided. Returns the token, and whether it is committed.
pub(super) fn resolve(map: &mut OwnerMap, log: &SharedMap, commit: bool) -> Option<(u64, bool)> {
    let token = map.load(header::PREPARED_TOKEN);
    if token == 0 {
        return None;
    }
    let (from, to) = (map.load(header::PREPARED_FROM), map.load(header::PREPARED_TO));
    let head = log.load(crate::layout::log::HEAD);
    let is_decider = map.load(header::PREPARED_DECIDER) == map.load(header::SHARD);
    let mut is_committed = from < to && head == to;
    if !is_committed && commit && !is_decider && head == from {
        LogWriter::move_head(log, to);
        is_committed = true;
    }
    if is_decider && !is_committed {
        for place in 0..header::DECISION_COUNT {
            let at = header::DECISIONS + place * WORD;
            if map.load(at) == token {
                map.store(at, 0);
            }
        }
    }
    map.publish(header::PREPARED_TOKEN, 0);
    Some((token, is_committed))
}

/// The header of a shard's data region, seen by whoever waits for a decision.
pub struct Decisions {
    map: ReaderMap,
}

impl Decisions {
    pub fn open(data: BorrowedFd) -> io::Result<Decisions> {
        if object_bytes(data)? < header::BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a data region"));
        }
        let map = ReaderMap::new(data, header::BYTES)?;
        if map.load(header::MAGIC) != MAGIC_DATA || map.load(header::LAYOUT_VERSION) != LAYOUT_VERSION {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a data region of this layout"));
        }
        Ok(Decisions { map })
    }

    /// Token and decider of the group that the shard's owner has prepared; zeros if there is none.
    pub fn prepared(&self) -> (u64, u64) {
        let token = self.map.word(header::PREPARED_TOKEN).load(Ordering::Acquire);
        (token, self.map.load(header::PREPARED_DECIDER))
    }

    /// Asked of the decider: whether it committed the transaction for that shard; None: it has not decided yet.
    pub fn outcome(&self, token: u64, shard: u64) -> Option<bool> {
        // Pairs with [D].
        if self.map.word(header::PREPARED_TOKEN).load(Ordering::Acquire) == token {
            return None;
        }
        Some(self.map.load(decision(shard)) == token)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{run, Regions};
    use super::super::Policy;
    use super::*;
    use crate::commands::batch::Latencies;
    use std::os::fd::AsFd;

    fn value(owner: &mut Owner, key: &[u8]) -> Option<Vec<u8>> {
        owner.lookup(key).map(|entry| owner.value(&entry).to_vec())
    }

    /// A shard with k = old, and k = new prepared.
    fn prepared(regions: &Regions, decider: u64) -> Owner {
        let mut owner = regions.create(64 << 20, 1 << 20, Policy::NoEviction);
        run(&mut owner, &[b"SET", b"k", b"old"]);
        owner.set_time();
        let payload = b"\x92\x93\xa3SET\xa1k\xa3new\x92\xa3DEL\xa1x";
        owner
            .prepare(payload, 0, 7, decider, &mut Latencies::default())
            .expect("a batch");
        assert_eq!(owner.prepared(), 7);
        owner
    }

    #[test]
    fn a_prepared_group_is_committed_or_forgotten() {
        for commits in [true, false] {
            let regions = Regions::new();
            let mut owner = prepared(&regions, 0);
            let asked = Decisions::open(regions.data.as_fd()).expect("a region");
            assert_eq!((asked.prepared(), asked.outcome(7, 3)), ((7, 0), None));
            let head = owner.log_position();
            if commits {
                owner.commit_prepared(&[3]);
            } else {
                owner.abandon_prepared();
            }
            assert_eq!(owner.log_position() > head, commits);
            assert_eq!(asked.outcome(7, 3), Some(commits));
            assert_eq!(asked.outcome(7, 4), Some(false));
            assert_eq!(
                value(&mut owner, b"k").as_deref(),
                Some(if commits { &b"new"[..] } else { b"old" })
            );
            run(&mut owner, &[b"SET", b"after", b"1"]);
            owner.verify().expect("right accounts");
            drop(owner);
            let mut next = regions.attach().expect("a region");
            assert_eq!(
                value(&mut next, b"k").as_deref(),
                Some(if commits { &b"new"[..] } else { b"old" })
            );
            assert_eq!(value(&mut next, b"after").as_deref(), Some(&b"1"[..]));
        }
    }

    #[test]
    fn a_killed_participant_does_what_was_decided() {
        for commits in [true, false] {
            let regions = Regions::new();
            drop(prepared(&regions, 5));
            let (data, hints, log) = (regions.data.as_fd(), regions.hints.as_fd(), regions.log.as_fd());
            let mut next = Owner::attach_deciding(data, hints, log, commits).expect("a region");
            assert_eq!(next.resolved, Some((7, commits)));
            assert_eq!(
                value(&mut next, b"k").as_deref(),
                Some(if commits { &b"new"[..] } else { b"old" })
            );
            run(&mut next, &[b"SET", b"k", b"newest"]);
            next.verify().expect("right accounts");
        }
    }

    #[test]
    fn a_decider_that_is_killed_before_it_decided_has_decided_nothing() {
        let regions = Regions::new();
        let mut owner = prepared(&regions, 0);
        owner.map.store(decision(3), 7);
        drop(owner);
        let mut next = regions.attach().expect("a region");
        assert_eq!(next.resolved, Some((7, false)));
        assert_eq!(value(&mut next, b"k").as_deref(), Some(&b"old"[..]));
        assert_eq!(
            Decisions::open(regions.data.as_fd()).expect("a region").outcome(7, 3),
            Some(false)
        );
    }
}
