//! What a tailer ships: whole groups with the positions they span, and the large values in them.
//!
//! # Values that the ring does not hold
//! A SetRef record names a value in the data region. Here it becomes a plain Set, with the value read there under the readers' protocol.
//! That needs two precautions:
//! * A record is published before its effect is in the data, so the index may still lack the entry. It is looked for only when
//!   APPLIED_POSITION has passed the record's group; if that does not happen soon (the owner died in between) the frame is `Busy`.
//! * The entry may have another stamp or node by now, or be gone: then this record's value exists no more and the record is dropped. What the receiver
//!   gets instead is a later record, its successor, and that is in the log already: a record is published before the data change. But
//!   a receiver that had applied a frame with the gap and not yet the successor would have lost a value that its primary acknowledged,
//!   and would, if promoted just then, lose it for good. So a frame with a gap goes on, beyond the size that was asked for, up to the
//!   log's head as it was when the gap was seen: all successors lie below that. A gap in what is added moves that goal again.
//!
//! The successor may be a mere Deadline record, which changes the stamp and has no value. For a key whose value was dropped, such a
//! record becomes a Set with the value too (or is dropped in turn, for a still later successor).

use super::record::{Effect, Record, Regrouped};
use super::ring;
use super::tailer::{read_groups, LogTailer, TailError};
use crate::layout::{header, log, Kind, WORD};
use crate::reader::{ShardReader, Unread};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A frame that would be larger is refused: its receiver is better served by a copy of the shard, slice by slice.
pub const MAX_FRAME_BYTES: usize = 2 << 30;

/// How long to wait for the owner to apply what it has published.
const APPLY_PATIENCE: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub enum FrameError {
    Tail(TailError),
    /// The data region cannot be read just now; nothing was consumed.
    Unread(Unread),
    /// More than MAX_FRAME_BYTES would have to be shipped as one frame.
    TooLarge,
}

impl From<TailError> for FrameError {
    fn from(error: TailError) -> FrameError {
        FrameError::Tail(error)
    }
}

impl From<Unread> for FrameError {
    fn from(error: Unread) -> FrameError {
        FrameError::Unread(error)
    }
}

/// Whole groups of the log, from one position to another.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub from: u64,
    pub to: u64,
    /// Of the log records between the two positions, the dropped ones included: sequence numbers of frames are dense.
    pub first_seq: u64,
    pub last_seq: u64,
    pub last_stamp: u64,
    /// Records in `records`.
    pub count: u64,
    pub records: Vec<u8>,
}

impl LogTailer {
    /// The next frame, of about `max_bytes`; None if there is nothing new. After an error the position is what it was.
    pub fn poll_frame(&mut self, max_bytes: usize, reader: Option<&ShardReader>) -> Result<Option<Frame>, FrameError> {
        let mut frame = Frame {
            from: self.position,
            to: self.position,
            ..Frame::default()
        };
        let mut gaps = Gaps::default();
        let mut must_reach = 0;
        loop {
            let start = frame.records.len();
            let next = read_groups(&self.map, frame.to, max_bytes, &mut frame.records)?;
            let has_references = frame.account(start);
            if let (true, Some(reader)) = (has_references || !gaps.keys.is_empty(), reader) {
                wait_until_applied(reader, next)?;
                let raw = frame.records.split_off(start);
                if gaps.resolve(reader, &raw, &mut frame)? {
                    must_reach = ring::readable_to(self.map.word(log::HEAD));
                }
            }
            if frame.records.len() > MAX_FRAME_BYTES {
                return Err(FrameError::TooLarge);
            }
            let stuck = next == frame.to;
            frame.to = next;
            if stuck || next >= must_reach {
                break;
            }
        }
        if frame.to == frame.from {
            return Ok(None);
        }
        self.position = frame.to;
        self.report();
        Ok(Some(frame))
    }
}

impl Frame {
    /// Take the records from byte `start` on into the account; true if there are references among them.
    fn account(&mut self, start: usize) -> bool {
        let mut has_references = false;
        let mut at = start;
        // Their checksums were checked when they were read.
        while at < self.records.len() {
            let word = |index: usize| {
                let bytes = &self.records[at + index * 8..at + index * 8 + 8];
                u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
            };
            let (length, seq, stamp, kind) = (word(0) as u32 as usize, word(1), word(2), (word(3) >> 48) as u8);
            has_references |= kind == Effect::SetRef as u8;
            if self.first_seq == 0 {
                self.first_seq = seq;
            }
            self.last_seq = seq;
            self.last_stamp = self.last_stamp.max(stamp);
            self.count += 1;
            at += length;
        }
        has_references
    }
}

/// Keys whose values were dropped, and have had no successor in the frame yet.
#[derive(Default)]
struct Gaps {
    keys: HashSet<Vec<u8>>,
}

impl Gaps {
    /// Append the groups in `raw` to the frame, references replaced. True if a record was dropped.
    fn resolve(&mut self, reader: &ShardReader, raw: &[u8], frame: &mut Frame) -> Result<bool, FrameError> {
        let mut out = Regrouped::onto(std::mem::take(&mut frame.records));
        let mut dropped = 0;
        let mut at = 0;
        while at < raw.len() {
            let (record, length) = Record::decode(&raw[at..]).map_err(|what| TailError::Corrupt(frame.to, what))?;
            let wants_value = match record.effect {
                Effect::SetRef => true,
                effect if effect.keeps_value() => self.keys.contains(record.key),
                _ => false,
            };
            if !wants_value {
                // A flush needs no look: a key that it deletes has its next value by a record of its own.
                if !self.keys.is_empty() && !record.effect.keeps_value() {
                    self.keys.remove(record.key);
                }
                out.push(&raw[at..at + length]);
            } else if out.push_if(|bytes| write_value(reader, &record, bytes))? {
                self.keys.remove(record.key);
            } else {
                self.keys.insert(record.key.to_vec());
                dropped += 1;
            }
            if !record.more {
                out.end_group();
            }
            if out.bytes.len() > MAX_FRAME_BYTES {
                return Err(FrameError::TooLarge);
            }
            at += length;
        }
        frame.records = out.bytes;
        frame.count -= dropped;
        Ok(dropped > 0)
    }
}

/// Append the record as a Set with its value from the data region. False: the value is not there any more.
fn write_value(reader: &ShardReader, record: &Record, out: &mut Vec<u8>) -> Result<bool, Unread> {
    let start = out.len();
    let written = reader.read_raw(record.key, |map, glimpse| {
        out.truncate(start);
        if map.load(glimpse.offset.0) != record.stamp || glimpse.meta.node() != record.node {
            return false;
        }
        let set = Record {
            effect: Effect::Set,
            kind: Kind::from_code(glimpse.meta.kind_code()).unwrap_or(Kind::String),
            value: &[],
            ..*record
        };
        set.encode_with(glimpse.meta.value_bytes() as usize, out, |room| {
            map.read(glimpse.offset.0 + glimpse.meta.value_at(), room)
        });
        true
    })?;
    Ok(written == Some(true))
}

/// The data has all effects below `position`, or will have them in a moment.
fn wait_until_applied(reader: &ShardReader, position: u64) -> Result<(), Unread> {
    debug_assert!(position.is_multiple_of(WORD));
    let mut patience: Option<Instant> = None;
    while reader.header_acquire(header::APPLIED_POSITION) < position {
        match patience {
            None => patience = Some(Instant::now() + APPLY_PATIENCE),
            Some(end) if Instant::now() > end => return Err(Unread::Busy),
            Some(_) => std::thread::yield_now(),
        }
    }
    Ok(())
}
