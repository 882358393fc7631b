//! Whether two hosts have the same entries: a digest per slot, and the keys of slots whose digests differ.
//!
//! A slot's digest is the wrapping sum of its entries' digests, so neither the order of the walk nor the hosts' numbers of shards matter.
//! Tombstones and entries past their deadline are left out: hosts forget them at different times.

use super::walk::{KeyBuffer, Sight, Visitor};
use super::{ShardReader, Unread};
use crate::layout::SLOT_COUNT;
use crate::slots::slot_of;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, Xxh3};

/// Bytes of a value that are hashed at a time; the largest value must not need its size in memory.
const PIECE_BYTES: usize = 64 << 10;

/// The digest of one entry: key, value, stamp, node, deadline, kind. Hosts compare it: a change is a change of protocol.
fn entry_digest(sight: &Sight, key: &[u8], piece: &mut Vec<u8>) -> u64 {
    let meta = sight.meta();
    let length = meta.value_bytes() as usize;
    let seed = xxh3_64(key);
    piece.resize(length.min(PIECE_BYTES), 0);
    let value = if length <= PIECE_BYTES {
        sight.value(0, piece);
        xxh3_64_with_seed(piece, seed)
    } else {
        let mut hasher = Xxh3::with_seed(seed);
        for start in (0..length).step_by(PIECE_BYTES) {
            piece.truncate(length - start);
            sight.value(start as u64, piece);
            hasher.update(piece);
        }
        hasher.digest()
    };
    let origin = (meta.node() as u64) << 8 | meta.kind_code() as u64;
    let mut rest = [0; 32];
    for (room, word) in rest.chunks_exact_mut(8).zip([value, sight.stamp(), sight.deadline, origin]) {
        room.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64(&rest)
}

/// True for an entry that hosts compare.
fn counted(sight: &Sight, now_ms: u64) -> bool {
    !sight.is_tombstone() && (sight.deadline == 0 || sight.deadline > now_ms)
}

struct Digests {
    now_ms: u64,
    key: KeyBuffer,
    piece: Vec<u8>,
    /// Of the bucket that is being visited.
    found: Vec<(u16, u64)>,
    sums: Vec<u64>,
}

impl Visitor for Digests {
    fn mark(&self) -> usize {
        self.found.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.found.truncate(mark);
    }

    fn visit(&mut self, sight: &Sight) {
        if counted(sight, self.now_ms) {
            let key = sight.key(&mut self.key);
            self.found.push((slot_of(key), entry_digest(sight, key, &mut self.piece)));
        }
    }

    fn go_on(&mut self) -> bool {
        for (slot, digest) in self.found.drain(..) {
            let sum = &mut self.sums[slot as usize];
            *sum = sum.wrapping_add(digest);
        }
        true
    }
}

/// One entry of a slot that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct SlotEntry {
    pub key: Vec<u8>,
    pub stamp: u64,
    pub node: u16,
    pub digest: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Unlisted {
    Unread(Unread),
    /// There are more entries than were allowed.
    TooMany,
}

struct Entries<'a> {
    slots: &'a [u8; SLOT_COUNT / 8],
    now_ms: u64,
    max_entries: usize,
    key: KeyBuffer,
    piece: Vec<u8>,
    found: Vec<SlotEntry>,
}

impl Visitor for Entries<'_> {
    fn mark(&self) -> usize {
        self.found.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.found.truncate(mark);
    }

    fn visit(&mut self, sight: &Sight) {
        if !counted(sight, self.now_ms) {
            return;
        }
        let key = sight.key(&mut self.key);
        let slot = slot_of(key) as usize;
        if self.slots[slot / 8] >> (slot % 8) & 1 == 1 {
            self.found.push(SlotEntry {
                key: key.to_vec(),
                stamp: sight.stamp(),
                node: sight.meta().node(),
                digest: entry_digest(sight, key, &mut self.piece),
            });
        }
    }

    fn go_on(&mut self) -> bool {
        self.found.len() <= self.max_entries
    }
}

impl ShardReader {
    /// Digest of each slot at `now_ms`. Exact if nothing is written meanwhile; else of some moment of each bucket.
    pub fn slot_digests(&self, now_ms: u64) -> Result<Vec<u64>, Unread> {
        let mut digests = Digests {
            now_ms,
            key: KeyBuffer::default(),
            piece: Vec::new(),
            found: Vec::new(),
            sums: vec![0; SLOT_COUNT],
        };
        // A walk may end before a bucket that is busy; to be the first of the next walk is that bucket's second chance.
        let mut cursor = self.walk(0, &mut digests)?;
        while cursor != 0 {
            cursor = self.walk(cursor, &mut digests)?;
        }
        Ok(digests.sums)
    }

    /// Entries of the slots whose bits are set (bit s%8 of byte s/8), in no order.
    pub fn slot_entries(
        &self,
        slots: &[u8; SLOT_COUNT / 8],
        now_ms: u64,
        max_entries: usize,
    ) -> Result<Vec<SlotEntry>, Unlisted> {
        let mut entries = Entries {
            slots,
            now_ms,
            max_entries,
            key: KeyBuffer::default(),
            piece: Vec::new(),
            found: Vec::new(),
        };
        let mut cursor = 0;
        loop {
            cursor = self.walk(cursor, &mut entries).map_err(Unlisted::Unread)?;
            if entries.found.len() > max_entries {
                return Err(Unlisted::TooMany);
            }
            if cursor == 0 {
                return Ok(entries.found);
            }
        }
    }
}
