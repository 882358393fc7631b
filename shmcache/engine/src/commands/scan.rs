//! Commands that walk the index: SCAN, KEYS, RANDOMKEY, DBSIZE.
//!
//! The cursor counts through the low hash bits from the highest down (Pieter Noordhuis' reverse binary cursor, as in Redis). The
//! bucket of level l at a cursor stands for an interval of that order, and a split halves the interval without moving anything out of
//! it. So a key that is there from the first step to the last is returned at least once, however the index grows meanwhile.

use super::number::parse_int;
use super::reply::Sink;
use super::table::Command;
use super::{glob, read::Busy, Args, Fail};
use crate::layout::{IndexState, Kind};
use crate::owner::Owner;

/// What can be walked.
pub trait Walk {
    fn state(&self) -> IndexState;
    /// Keys and kinds of a bucket's live entries.
    fn bucket(&mut self, bucket: u64) -> Result<Vec<(Vec<u8>, u8)>, Busy>;
    fn random(&mut self) -> u64;
    fn keys(&self) -> u64;
}

impl Walk for Owner {
    fn state(&self) -> IndexState {
        self.index_state()
    }

    fn bucket(&mut self, bucket: u64) -> Result<Vec<(Vec<u8>, u8)>, Busy> {
        let mut found = Vec::new();
        self.bucket_entries(bucket, |entry| {
            found.push((self.key_at(entry.offset).to_vec(), entry.meta.kind_code()))
        });
        Ok(found)
    }

    fn random(&mut self) -> u64 {
        Owner::random(self)
    }

    fn keys(&self) -> u64 {
        Owner::keys(self)
    }
}

/// Keys that one step may ask for at most.
pub const MAX_COUNT: u64 = 100_000;
const DEFAULT_COUNT: u64 = 10;
/// Buckets that one step may look at, however few keys it asks for: in an index that was larger once, most are empty. Some ten microseconds.
const BUCKETS: u64 = 4096;

/// The cursor after the bucket of `bits` low hash bits that `cursor` lies in; 0 when that was the last.
pub fn next_cursor(cursor: u64, bits: u32) -> u64 {
    let mask = (1u64 << bits) - 1;
    let mut next = cursor | !mask;
    next = next.reverse_bits().wrapping_add(1).reverse_bits();
    next & mask
}

/// One step: keys of some buckets, about `count`, and the next cursor.
pub fn step(
    walk: &mut impl Walk,
    mut cursor: u64,
    count: u64,
    mut keep: impl FnMut(&[u8], u8) -> bool,
) -> Result<(u64, Vec<Vec<u8>>), Busy> {
    let count = count.clamp(1, MAX_COUNT);
    let mut keys = Vec::new();
    let mut visited = 0;
    for _ in 0..BUCKETS.max(count * 10) {
        let (bucket, bits) = loop {
            let state = walk.state();
            let bucket = state.bucket_of(cursor);
            let found = walk.bucket(bucket)?;
            // A reader's bucket may have been split between the two looks: then its interval is another.
            let after = walk.state();
            if after.local_level(bucket) == state.local_level(bucket) && after.flush_epoch() == state.flush_epoch() {
                break (found, state.local_level(bucket));
            }
        };
        visited += bucket.len() as u64;
        keys.extend(bucket.into_iter().filter(|(key, kind)| keep(key, *kind)).map(|(key, _)| key));
        cursor = next_cursor(cursor, bits);
        if cursor == 0 || visited >= count {
            break;
        }
    }
    Ok((cursor, keys))
}

pub fn run(walk: &mut impl Walk, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Dbsize => {
            out.int(walk.keys() as i64);
            Ok(())
        }
        Command::Randomkey => {
            match random_key(walk)? {
                Some(key) => out.bytes(&key),
                None => out.nil(),
            }
            Ok(())
        }
        Command::Keys => {
            let mut keys = Vec::new();
            let mut cursor = 0;
            loop {
                let (next, some) = step(walk, cursor, MAX_COUNT, |key, _| glob::matches(args[1], key))?;
                keys.extend(some);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            write_keys(&keys, out);
            Ok(())
        }
        Command::Scan => {
            let scan = ScanArgs::parse(args)?;
            let (cursor, keys) = scan.step(walk)?;
            out.array(2);
            out.bytes(cursor.to_string().as_bytes());
            write_keys(&keys, out);
            Ok(())
        }
        other => unreachable!("{other:?} does not walk"),
    }
}

fn write_keys(keys: &[Vec<u8>], out: &mut impl Sink) {
    out.array(keys.len());
    for key in keys {
        out.bytes(key);
    }
}

/// A random bucket's random key; a few probes, then the first key that a walk from there meets.
fn random_key(walk: &mut impl Walk) -> Result<Option<Vec<u8>>, Busy> {
    let start = walk.random();
    for probe in 0..100 {
        let at = if probe == 0 { start } else { walk.random() };
        let bucket = at % walk.state().buckets();
        let mut found = walk.bucket(bucket)?;
        if !found.is_empty() {
            let index = (walk.random() % found.len() as u64) as usize;
            return Ok(Some(found.swap_remove(index).0));
        }
    }
    let buckets = walk.state().buckets();
    for step in 0..buckets {
        let bucket = (start % buckets + step) % buckets;
        if let Some((key, _)) = walk.bucket(bucket)?.into_iter().next() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

pub fn cursor_arg(text: &[u8]) -> Result<u64, Fail> {
    let cursor = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    cursor.ok_or_else(|| Fail::err("invalid cursor"))
}

pub struct ScanArgs<'a> {
    pub cursor: u64,
    pub pattern: Option<&'a [u8]>,
    pub count: u64,
    /// Kinds of another name have no keys.
    pub kind: Option<&'a [u8]>,
}

impl<'a> ScanArgs<'a> {
    fn parse(args: &[&'a [u8]]) -> Result<ScanArgs<'a>, Fail> {
        let mut scan = ScanArgs {
            cursor: cursor_arg(args[1])?,
            pattern: None,
            count: DEFAULT_COUNT,
            kind: None,
        };
        let mut options = args[2..].iter();
        while let Some(option) = options.next() {
            let value = *options.next().ok_or_else(Fail::syntax)?;
            if option.eq_ignore_ascii_case(b"match") {
                scan.pattern = Some(value);
            } else if option.eq_ignore_ascii_case(b"count") {
                let count = parse_int(value).ok_or_else(|| Fail::err("value is not an integer or out of range"))?;
                if count < 1 {
                    return Err(Fail::syntax());
                }
                scan.count = count as u64;
            } else if option.eq_ignore_ascii_case(b"type") {
                scan.kind = Some(value);
            } else {
                return Err(Fail::syntax());
            }
        }
        Ok(scan)
    }

    pub fn step(&self, walk: &mut impl Walk) -> Result<(u64, Vec<Vec<u8>>), Busy> {
        step(walk, self.cursor, self.count, |key, code| {
            self.pattern.is_none_or(|pattern| glob::matches(pattern, key))
                && self.kind.is_none_or(|wanted| {
                    Kind::from_code(code).is_some_and(|kind| wanted.eq_ignore_ascii_case(kind.name().as_bytes()))
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cursors visit every hash once, whatever the level, and growing in the middle skips none.
    #[test]
    fn no_hash_is_skipped_while_the_index_grows() {
        for grow_every in [1, 2, 3, 7] {
            let mut state = IndexState::new(0, 3, 0);
            let mut seen = vec![false; 1 << 10];
            let (mut cursor, mut steps) = (0, 0);
            loop {
                let bucket = state.bucket_of(cursor);
                for (hash, seen) in seen.iter_mut().enumerate() {
                    *seen |= state.bucket_of(hash as u64) == bucket;
                }
                cursor = next_cursor(cursor, state.local_level(bucket));
                if cursor == 0 {
                    break;
                }
                steps += 1;
                if steps % grow_every == 0 && state.buckets() < 100 {
                    state = state.next();
                }
            }
            assert!(seen.iter().all(|&seen| seen));
        }
    }
}
