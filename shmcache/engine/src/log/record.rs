//! Log records: effects with absolute values, so that applying one twice changes nothing. `docs/log.md` tells the same in prose.
//!
//! ```text
//!  word 0   length, bytes, a multiple of 8 (32) | CRC-32C of all that follows (32)
//!  word 1   sequence number, dense per shard
//!  word 2   stamp
//!  word 3   epoch (32) | node (9) | event (7) | effect (8) | kind of the value, 0 = string (4) | flags (4)
//!  word 4   key bytes (32) | value bytes (32)
//!  word 5   deadline, unix ms; 0 = none
//!  key      padded with zeros to a multiple of 8
//!  value    padded likewise
//! ```
//! A filler at the ring's end, where the next record does not fit, is word 0 alone with FILLER in its length's top bit.

use crate::layout::{padded, Kind, Origin, MAX_NODE, WORD};

pub const HEADER_BYTES: u64 = 6 * WORD;
pub const FILLER: u32 = 1 << 31;
/// More records of the same atomic group follow.
pub const FLAG_MORE: u8 = 1;
/// The upper half of the flags' byte is the value's kind.
const KIND_SHIFT: u32 = 4;
const EVENT_SHIFT: u32 = 41;
const MAX_EVENT: u8 = 127;

/// What a record did. Numbers are stored: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Effect {
    /// The key has this value, of this kind, and this deadline.
    Set = 1,
    Delete = 2,
    /// The key's deadline is now this; its value is unchanged.
    Deadline = 3,
    /// Deleted because its deadline passed.
    Expired = 4,
    /// Deleted to make room.
    Evicted = 5,
    /// All keys of the shard are deleted. No key.
    Flush = 6,
    /// As Set, but the value is too large for the ring: `value` is its offset and length in the data region, 8 bytes each. A tailer
    /// reads the key, and takes the value if it still has this stamp; if not, a later record has a newer one.
    SetRef = 7,
    /// Parts of the key's large collection changed: its root has this stamp now, and the value and deadline that it had.
    Changed = 8,
}

impl Effect {
    pub fn from_code(code: u8) -> Option<Effect> {
        Some(match code {
            1 => Effect::Set,
            2 => Effect::Delete,
            3 => Effect::Deadline,
            4 => Effect::Expired,
            5 => Effect::Evicted,
            6 => Effect::Flush,
            7 => Effect::SetRef,
            8 => Effect::Changed,
            _ => return None,
        })
    }

    /// Whether the record changes an entry that is there, and does not have its value.
    pub fn keeps_value(self) -> bool {
        matches!(self, Effect::Deadline | Effect::Changed)
    }

    pub fn name(self) -> &'static str {
        match self {
            Effect::Set => "set",
            Effect::Delete => "delete",
            Effect::Deadline => "expire_at",
            Effect::Expired => "expired",
            Effect::Evicted => "evicted",
            Effect::Flush => "flush",
            Effect::SetRef => "set_ref",
            Effect::Changed => "changed",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    pub seq: u64,
    pub stamp: u64,
    pub epoch: u32,
    pub node: u16,
    pub effect: Effect,
    /// Of the value; String where there is none.
    pub kind: Kind,
    /// What the change is called: number of a row of `commands/events.rs`, 0 = nothing but its effect.
    pub event: u8,
    pub more: bool,
    pub deadline: u64,
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// Length in the log of a record with this key and value.
pub fn record_bytes(key: usize, value: usize) -> u64 {
    HEADER_BYTES + padded(key as u64) + padded(value as u64)
}

impl<'a> Record<'a> {
    /// What decides whether it is newer than an entry.
    #[inline]
    pub fn origin(&self) -> Origin {
        Origin {
            stamp: self.stamp,
            node: self.node,
        }
    }

    /// Append the record's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = self.begin(self.value.len(), out);
        out.extend_from_slice(self.value);
        out.resize(out.len().next_multiple_of(8), 0);
        seal(&mut out[start..]);
    }

    /// As `encode`, with a value of `value_bytes` that `fill` writes in place: it may be large, and is copied only once so.
    pub fn encode_with(&self, value_bytes: usize, out: &mut Vec<u8>, fill: impl FnOnce(&mut [u8])) {
        let start = self.begin(value_bytes, out);
        let value_at = out.len();
        out.resize(value_at + padded(value_bytes as u64) as usize, 0);
        fill(&mut out[value_at..value_at + value_bytes]);
        seal(&mut out[start..]);
    }

    /// Header, its checksum still missing, and key; returns where the record starts.
    fn begin(&self, value_bytes: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let length = record_bytes(self.key.len(), value_bytes);
        out.reserve(length as usize);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.stamp.to_le_bytes());
        let kind = if self.kind == Kind::String { 0 } else { self.kind as u8 };
        let flags = kind << KIND_SHIFT | if self.more { FLAG_MORE } else { 0 };
        let word3 = self.epoch as u64
            | (self.node as u64) << 32
            | (self.event as u64) << EVENT_SHIFT
            | (self.effect as u64) << 48
            | (flags as u64) << 56;
        out.extend_from_slice(&word3.to_le_bytes());
        out.extend_from_slice(&(self.key.len() as u64 | (value_bytes as u64) << 32).to_le_bytes());
        out.extend_from_slice(&self.deadline.to_le_bytes());
        out.extend_from_slice(self.key);
        out.resize(out.len().next_multiple_of(8), 0);
        start
    }

    /// Decode the record at the start of `data`; also returns its length. An error says what is wrong with it.
    pub fn decode(data: &'a [u8]) -> Result<(Record<'a>, usize), &'static str> {
        let word = |index: usize| u64::from_le_bytes(data[index * 8..index * 8 + 8].try_into().expect("eight bytes"));
        if data.len() < HEADER_BYTES as usize {
            return Err("shorter than a record's header");
        }
        let length = (word(0) & 0xffff_ffff) as usize;
        if length < HEADER_BYTES as usize || !length.is_multiple_of(8) || length > data.len() {
            return Err("its length is impossible");
        }
        if crc32c::crc32c(&data[8..length]) != (word(0) >> 32) as u32 {
            return Err("its checksum is wrong");
        }
        let (key_bytes, value_bytes) = ((word(4) & 0xffff_ffff) as usize, (word(4) >> 32) as usize);
        if record_bytes(key_bytes, value_bytes) != length as u64 {
            return Err("its parts do not add up to its length");
        }
        let effect = Effect::from_code((word(3) >> 48) as u8).ok_or("its kind is unknown")?;
        let flags = (word(3) >> 56) as u8;
        let kind = match flags >> KIND_SHIFT {
            0 => Kind::String,
            code => Kind::from_code(code).ok_or("the kind of its value is unknown")?,
        };
        let key_at = HEADER_BYTES as usize;
        let value_at = key_at + padded(key_bytes as u64) as usize;
        let record = Record {
            seq: word(1),
            stamp: word(2),
            epoch: word(3) as u32,
            node: (word(3) >> 32) as u16 & MAX_NODE,
            effect,
            kind,
            event: (word(3) >> EVENT_SHIFT) as u8 & MAX_EVENT,
            more: flags & FLAG_MORE != 0,
            deadline: word(5),
            key: &data[key_at..key_at + key_bytes],
            value: &data[value_at..value_at + value_bytes],
        };
        Ok((record, length))
    }
}

/// Put in the checksum of a record that is complete otherwise.
fn seal(record: &mut [u8]) {
    let checksum = crc32c::crc32c(&record[8..]);
    record[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// The flags' byte in a record.
const FLAGS_AT: usize = 3 * 8 + 7;

/// Groups written anew, after some of their records went elsewhere or were left out: the last record that is left must not say MORE.
#[derive(Default)]
pub struct Regrouped {
    pub bytes: Vec<u8>,
    /// Where the last record of the group that is being written starts.
    last: Option<usize>,
}

impl Regrouped {
    /// Groups to be appended to these bytes.
    pub fn onto(bytes: Vec<u8>) -> Regrouped {
        Regrouped { bytes, last: None }
    }

    /// Append a record of the current group as it is.
    #[inline]
    pub fn push(&mut self, record: &[u8]) {
        self.last = Some(self.bytes.len());
        self.bytes.extend_from_slice(record);
    }

    /// Append a record that `write` encodes, or take back what it wrote if it says false.
    pub fn push_if<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>) -> Result<bool, E> {
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        if let Ok(true) = written {
            self.last = Some(start);
        } else {
            self.bytes.truncate(start);
        }
        written
    }

    /// The current group is complete.
    #[inline]
    pub fn end_group(&mut self) {
        if let Some(start) = self.last.take() {
            let record = &mut self.bytes[start..];
            if record[FLAGS_AT] & FLAG_MORE != 0 {
                record[FLAGS_AT] &= !FLAG_MORE;
                seal(record);
            }
        }
    }
}

/// The records in `data`, with the byte position behind each; ends with an error at the first that is damaged.
pub fn records(data: &[u8]) -> impl Iterator<Item = Result<(Record<'_>, usize), (usize, &'static str)>> {
    let mut at = 0;
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || at == data.len() {
            return None;
        }
        match Record::decode(&data[at..]) {
            Ok((record, length)) => {
                at += length;
                Some(Ok((record, at)))
            }
            Err(what) => {
                failed = true;
                Some(Err((at, what)))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<u8> {
        let mut bytes = Vec::new();
        let record = Record {
            seq: 7,
            stamp: 9 << 16,
            epoch: 3,
            node: 2,
            effect: Effect::Set,
            kind: Kind::Hash,
            event: 5,
            more: true,
            deadline: 11,
            key: b"key",
            value: b"some value",
        };
        record.encode(&mut bytes);
        assert_eq!(Record::decode(&bytes), Ok((record, bytes.len())));
        bytes
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let bytes = example();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_value_written_in_place_gives_the_same_record() {
        let bytes = example();
        let (record, _) = Record::decode(&bytes).unwrap();
        let mut other = vec![1; 8];
        record.encode_with(record.value.len(), &mut other, |room| room.copy_from_slice(record.value));
        assert_eq!(other[8..], bytes);
    }

    #[test]
    fn what_is_left_of_a_group_is_a_group() {
        let mut regrouped = Regrouped::default();
        regrouped.push(&example());
        regrouped.push(&example());
        let kept: Result<bool, ()> = regrouped.push_if(|out| {
            out.extend_from_slice(b"half a record");
            Ok(false)
        });
        assert_eq!(kept, Ok(false));
        regrouped.end_group();
        let more: Vec<bool> = records(&regrouped.bytes).map(|item| item.unwrap().0.more).collect();
        assert_eq!(more, [true, false]);
    }

    #[test]
    fn any_cut_is_found() {
        let bytes = example();
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_err());
        }
    }
}
