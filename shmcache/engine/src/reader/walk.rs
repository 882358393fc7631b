//! Walking a shard without its owner: every entry, tombstones and expired ones too, while the index changes and grows.
//!
//! The cursor is SCAN's (`commands/scan.rs`): a split moves nothing out of the interval that a cursor has still to cover, so an entry that is there
//! throughout is met at least once. Each bucket is read consistently under its ticket; only its large values are read afterwards, each
//! under a ticket of its own, because a change of any other key of the bucket would void a copy that takes long. Such a value is
//! then that of the same moment or newer; its key may be gone, which is newer too.

use super::{Glimpse, ShardReader, Unread, SPINS, YIELDS};
use crate::bucket;
use crate::commands::scan::next_cursor;
use crate::index::MAX_CHAIN;
use crate::layout::*;
use crate::memory::ReaderMap;

/// Values above this are read one by one.
const LARGE_VALUE_BYTES: u64 = 64 << 10;

/// Buckets whose line is fetched into the processor's cache ahead of the walk.
const BUCKETS_AHEAD: u32 = 4;

/// An entry in the middle of a visit: nothing is certain yet, but that it lies inside the heap.
pub struct Sight<'a> {
    map: &'a ReaderMap,
    glimpse: Glimpse,
    pub deadline: u64,
}

impl Sight<'_> {
    pub fn meta(&self) -> Meta {
        self.glimpse.meta
    }

    pub fn stamp(&self) -> u64 {
        self.map.load(self.glimpse.offset.0)
    }

    pub fn is_tombstone(&self) -> bool {
        self.glimpse.meta.kind_code() == TOMBSTONE_CODE
    }

    /// Copy the key into `key`.
    #[inline]
    pub fn key<'k>(&self, key: &'k mut KeyBuffer) -> &'k [u8] {
        let room = &mut key.0[..self.glimpse.meta.key_bytes() as usize];
        self.map.read(self.glimpse.offset.0 + self.glimpse.meta.key_at(), room);
        room
    }

    /// Copy value bytes from `start`, a multiple of 8, on.
    #[inline]
    pub fn value(&self, start: u64, out: &mut [u8]) {
        let at = self.glimpse.offset.0 + self.glimpse.meta.value_at();
        self.map.read(at + start, out)
    }
}

/// Room for any key.
pub struct KeyBuffer(Box<[u8]>);

impl Default for KeyBuffer {
    fn default() -> KeyBuffer {
        KeyBuffer(vec![0; MAX_KEY_BYTES].into())
    }
}

/// What is made of the entries. A bucket may be visited several times until it was seen in peace.
pub trait Visitor {
    /// How much has been collected.
    fn mark(&self) -> usize;
    /// Forget what was collected after that mark.
    fn rewind(&mut self, mark: usize);
    fn visit(&mut self, sight: &Sight);
    /// A bucket is complete and certain. False: stop behind it.
    fn go_on(&mut self) -> bool;
}

impl ShardReader {
    /// Walk from `cursor` (0: the start) until the visitor stops it. Returns the next cursor, 0 when the walk is through. If a bucket cannot be read the
    /// walk ends before it, and that is an error only if it was the first.
    pub fn walk(&self, mut cursor: u64, visitor: &mut impl Visitor) -> Result<u64, Unread> {
        let mut first = true;
        let mut large = Vec::new();
        loop {
            let mark = visitor.mark();
            let bits = match self.visit_bucket(cursor, visitor, &mut large) {
                Ok(bits) => bits,
                Err(unread) => {
                    visitor.rewind(mark);
                    if first || unread == Unread::Retired {
                        return Err(unread);
                    }
                    return Ok(cursor);
                }
            };
            first = false;
            cursor = next_cursor(cursor, bits);
            if !visitor.go_on() || cursor == 0 {
                return Ok(cursor);
            }
        }
    }

    /// Visit the bucket at `cursor`; how many low hash bits its keys share.
    fn visit_bucket(&self, cursor: u64, visitor: &mut impl Visitor, large: &mut Vec<Vec<u8>>) -> Result<u32, Unread> {
        let mark = visitor.mark();
        let bits = self.visit_small(cursor, visitor, large, mark)?;
        for key in large.drain(..) {
            let mark = visitor.mark();
            let found = self.read_raw(&key, |map, glimpse| {
                visitor.rewind(mark);
                visitor.visit(&self.sight(map, glimpse));
            })?;
            if found.is_none() {
                // It may have been there in an attempt that did not count.
                visitor.rewind(mark);
            }
        }
        Ok(bits)
    }

    fn visit_small(&self, cursor: u64, visitor: &mut impl Visitor, large: &mut Vec<Vec<u8>>, mark: usize) -> Result<u32, Unread> {
        for attempt in 0..SPINS + YIELDS {
            if attempt > 0 {
                self.wait(attempt);
            }
            if self.map.load(header::STATE) != STATE_SERVING {
                return Err(Unread::Retired);
            }
            visitor.rewind(mark);
            large.clear();
            let state = self.state();
            let bucket = state.bucket_of(cursor);
            let version = self.index_base + bucket * BUCKET_BYTES;
            self.prefetch_ahead(state, cursor, state.local_level(bucket));
            let Some(ticket) = bucket::begin_read(self.map.word(version)) else {
                continue;
            };
            if self.visit_chain(version, visitor, large).is_err() || !bucket::validate(self.map.word(version), ticket) {
                continue;
            }
            // The bucket may have been split between the two looks: then its interval is another.
            let after = self.state();
            let same_interval = after.bucket_of(cursor) == bucket && after.local_level(bucket) == state.local_level(bucket);
            if after.flush_epoch() == state.flush_epoch() && same_interval {
                return Ok(state.local_level(bucket));
            }
        }
        Err(Unread::Busy)
    }

    fn visit_chain(&self, version: u64, visitor: &mut impl Visitor, large: &mut Vec<Vec<u8>>) -> Result<(), ()> {
        let mut at = version;
        for _ in 0..MAX_CHAIN {
            let mut next = None;
            for number in 1..=PLACES as u64 {
                let word = IndexWord(self.map.load(at + WORD * number));
                if word.is_link() {
                    next = Some(word.offset());
                } else if !word.is_empty() {
                    let offset = word.offset();
                    let meta = self.meta_at(offset)?;
                    if meta.key_bytes() > MAX_KEY_BYTES as u64 {
                        return Err(());
                    }
                    if meta.value_bytes() > LARGE_VALUE_BYTES {
                        let mut key = vec![0; meta.key_bytes() as usize];
                        self.map.read(offset.0 + meta.key_at(), &mut key);
                        large.push(key);
                    } else {
                        visitor.visit(&self.sight(&self.map, Glimpse { offset, meta }));
                    }
                }
            }
            match next {
                None => return Ok(()),
                Some(offset) => at = self.inside(offset, BUCKET_BYTES)?,
            }
        }
        Err(())
    }

    #[inline]
    fn sight<'a>(&self, map: &'a ReaderMap, glimpse: Glimpse) -> Sight<'a> {
        Sight {
            map,
            glimpse,
            deadline: self.deadline_of(glimpse),
        }
    }

    /// The cursor jumps about in memory: fetch the lines of a bucket some steps ahead, and the entries of one a step or two ahead.
    #[inline]
    fn prefetch_ahead(&self, state: IndexState, cursor: u64, bits: u32) {
        let mut ahead = cursor;
        for step in 1..=BUCKETS_AHEAD {
            ahead = next_cursor(ahead, bits);
            let at = self.index_base + state.bucket_of(ahead) * BUCKET_BYTES;
            if step == 2 {
                for place in 1..=PLACES as u64 {
                    let word = IndexWord(self.map.load(at + place * WORD));
                    self.map.prefetch(word.offset().0);
                    self.map.prefetch(word.offset().0 + BUCKET_BYTES);
                }
            }
        }
        self.map.prefetch(self.index_base + state.bucket_of(ahead) * BUCKET_BYTES);
    }
}
