//! A full copy of a shard, in slices, taken by whoever may read it while the owner works on.
//!
//! # Why a slice and the log from its position on are everything
//! The owner moves APPLIED_POSITION (release) after the effects of the records below it are in the index and the heap. A slice loads it (acquire)
//! before it looks at the first bucket, so each bucket is seen with all those effects, or newer ones. What the slice misses was
//! published behind that position, and applying records on top of newer effects changes nothing (their stamps are older). So: all slices of a
//! walk, and then the log from the *first* slice's position on, give the state of the log's end. Records below that position must
//! not be applied after the slices: an entry that was deleted meanwhile would come back, with nothing to delete it again.

use super::walk::{KeyBuffer, Sight, Visitor};
use super::{ShardReader, Unread};
use crate::layout::{header, Kind};
use crate::log::record::{Effect, Record};
use crate::owner::marks;

/// Some buckets' entries as log records.
#[derive(Debug)]
pub struct Slice {
    /// Where the next slice begins; 0: there is none.
    pub next_cursor: u64,
    /// Log position of which the slice has all effects.
    pub applied_position: u64,
    pub records: Vec<u8>,
}

struct Copy {
    key: KeyBuffer,
    epoch: u32,
    max_bytes: usize,
    records: Vec<u8>,
}

impl Visitor for Copy {
    fn mark(&self) -> usize {
        self.records.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.records.truncate(mark);
    }

    #[inline]
    fn visit(&mut self, sight: &Sight) {
        let deleted = sight.is_tombstone();
        let record = Record {
            seq: 0,
            stamp: sight.stamp(),
            epoch: self.epoch,
            node: sight.meta().node(),
            effect: if deleted { Effect::Delete } else { Effect::Set },
            kind: if deleted {
                Kind::String
            } else {
                Kind::from_code(sight.meta().kind_code()).unwrap_or(Kind::String)
            },
            event: 0,
            more: false,
            // A tombstone's own deadline says when it may be forgotten here, nothing about the key.
            deadline: if deleted { 0 } else { sight.deadline },
            key: sight.key(&mut self.key),
            value: &[],
        };
        let value_bytes = if deleted { 0 } else { sight.meta().value_bytes() as usize };
        record.encode_with(value_bytes, &mut self.records, |room| sight.value(0, room));
    }

    fn go_on(&mut self) -> bool {
        self.records.len() < self.max_bytes
    }
}

impl ShardReader {
    /// The flushes that the shard remembers, as records. To be read after a slice, and applied before the copy's first: they have at least those
    /// flushes whose effects the slice has.
    pub fn flush_records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (origin, ranges) in marks::flushes(|field| self.header_acquire(field)) {
            let record = Record {
                seq: 0,
                stamp: origin.stamp,
                epoch: self.header(header::EPOCH) as u32,
                node: origin.node,
                effect: Effect::Flush,
                kind: Kind::String,
                event: 0,
                more: false,
                deadline: 0,
                key: &[],
                value: &marks::scope(&ranges),
            };
            record.encode(&mut out);
        }
        out
    }

    /// All entries from `cursor` on, up to the bucket with which they take `max_bytes`.
    pub fn copy_slice(&self, cursor: u64, max_bytes: usize) -> Result<Slice, Unread> {
        let applied_position = self.header_acquire(header::APPLIED_POSITION);
        let mut copy = Copy {
            key: KeyBuffer::default(),
            epoch: self.header(header::EPOCH) as u32,
            max_bytes,
            records: Vec::with_capacity(max_bytes.min(16 << 20) + (16 << 10)),
        };
        let next_cursor = self.walk(cursor, &mut copy)?;
        Ok(Slice {
            next_cursor,
            applied_position,
            records: copy.records,
        })
    }
}
