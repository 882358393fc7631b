//! The owner's end of the log: appends whole groups, publishes each at once.

use super::record::{Record, FILLER};
use super::ring;
use crate::failpoint::{pass, FailPoint};
use crate::layout::{log, LAYOUT_VERSION, MAGIC_LOG, WORD};
use crate::memory::{format_object, SharedMap};
use crate::sync::Ordering;
use std::io;
use std::os::fd::BorrowedFd;

pub const MIN_LOG_BYTES: u64 = 64 << 10;

pub struct LogWriter {
    map: SharedMap,
    ring_bytes: u64,
    head: u64,
    tail: u64,
    /// Sequence number of the last record.
    pub seq: u64,
    /// Encoded records of the group being written.
    staged: Vec<u8>,
    /// Lengths of the staged records: fillers go between whole records.
    lengths: Vec<u32>,
}

impl LogWriter {
    /// Bytes of the log object with a ring of `ring_bytes`.
    fn object_bytes(ring_bytes: u64) -> u64 {
        log::RING_AT + ring_bytes
    }

    pub fn create(fd: BorrowedFd, ring_bytes: u64) -> io::Result<LogWriter> {
        let bytes = Self::object_bytes(ring_bytes);
        format_object(fd, bytes, bytes)?;
        let map = SharedMap::new(fd, bytes)?;
        map.store(log::LAYOUT_VERSION, LAYOUT_VERSION);
        map.store(log::RING_BYTES, ring_bytes);
        map.word(log::MAGIC).store(MAGIC_LOG, Ordering::Release);
        Ok(LogWriter {
            map,
            ring_bytes,
            head: 0,
            tail: 0,
            seq: 0,
            staged: Vec::new(),
            lengths: Vec::new(),
        })
    }

    /// Take over an existing log. `seq` is the last applied record's and `position` the place behind it; later records are the
    /// caller's to redo, after which it sets `seq`.
    pub fn attach(map: SharedMap, seq: u64) -> LogWriter {
        let (ring_bytes, head, tail) = (map.load(log::RING_BYTES), map.load(log::HEAD), map.load(log::TAIL));
        LogWriter {
            map,
            ring_bytes,
            head,
            tail,
            seq,
            staged: Vec::new(),
            lengths: Vec::new(),
        }
    }

    pub fn map(&self) -> &SharedMap {
        &self.map
    }

    /// Position behind the last published record.
    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// Values above this go as references: one record must never push most of the ring out.
    pub fn max_value_bytes(&self) -> usize {
        (self.ring_bytes / 16) as usize
    }

    /// A group may take half of the ring, fillers included.
    pub fn max_group_bytes(&self) -> u64 {
        self.ring_bytes / 2
    }

    /// Add a record to the group; its sequence number is given here.
    #[inline]
    pub fn stage(&mut self, mut record: Record) {
        self.seq += 1;
        record.seq = self.seq;
        let before = self.staged.len();
        record.encode(&mut self.staged);
        self.lengths.push((self.staged.len() - before) as u32);
    }

    /// Write the staged group and make it readable, whole.
    #[inline]
    pub fn commit(&mut self) {
        let end = self.write();
        pass(FailPoint::LogWritten);
        self.publish(end);
    }

    /// Write the staged group behind the head, where nobody reads. Returns the position behind it. What is written next replaces it, unless it is published.
    #[inline]
    pub fn write(&mut self) -> u64 {
        let staged = std::mem::take(&mut self.staged);
        let mut position = self.head;
        let mut from = 0;
        for index in 0..self.lengths.len() {
            let length = self.lengths[index] as u64;
            let to_end = self.ring_bytes - position % self.ring_bytes;
            if to_end < length {
                self.make_room(position + to_end);
                self.map.store(self.place(position), (to_end as u32 | FILLER) as u64);
                position += to_end;
            }
            self.make_room(position + length);
            self.map.write(self.place(position), &staged[from..from + length as usize]);
            position += length;
            from += length as usize;
        }
        self.staged = staged;
        self.staged.clear();
        self.lengths.clear();
        position
    }

    /// Make what was written up to `end` readable.
    #[inline]
    pub fn publish(&mut self, end: u64) {
        self.head = end;
        // Advice for tools; recovery counts from the data region's journal.
        self.map.store(log::HEAD_SEQ, self.seq);
        ring::publish(self.map.word(log::HEAD), end);
    }

    /// As `publish`, of a log that has no writer at present.
    pub fn move_head(map: &SharedMap, end: u64) {
        ring::publish(map.word(log::HEAD), end);
    }

    #[inline]
    fn place(&self, position: u64) -> u64 {
        log::RING_AT + position % self.ring_bytes
    }

    /// Move the tail over whole records until `new_head` fits; some records ahead, so that it is rare.
    #[inline]
    fn make_room(&mut self, new_head: u64) {
        if new_head - self.tail <= self.ring_bytes {
            return;
        }
        let ahead = (self.ring_bytes / 16).min(64 << 10);
        let wanted = (new_head + ahead - self.ring_bytes).min(self.head);
        while self.tail < wanted {
            let length = (self.map.load(self.place(self.tail)) as u32 & !FILLER) as u64;
            if length < WORD || !length.is_multiple_of(WORD) || length > self.head - self.tail {
                // Damaged by somebody else: what it leads to cannot be found, so all of it is given up.
                self.tail = self.head;
                break;
            }
            self.tail += length;
        }
        debug_assert!(new_head - self.tail <= self.ring_bytes);
        ring::give_up(self.map.word(log::TAIL), self.tail);
        pass(FailPoint::LogTailMoved);
    }
}
