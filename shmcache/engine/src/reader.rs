//! The readers' side of a shard: a read-only mapping, no lock, no trust.
//!
//! A lookup holds a ticket of its bucket (see `bucket.rs`), follows words and lengths only inside the committed heap, copies what it wants, and
//! throws the copy away unless the ticket, the flush epoch and, for a miss, the key's bucket are still the same.

pub mod copy;
pub mod digest;
pub mod walk;

use crate::bucket;
use crate::clock::now_ms;
use crate::hints::{mark_at, Hints};
use crate::index::MAX_CHAIN;
use crate::layout::*;
use crate::memory::{object_bytes, ReaderMap};
use crate::owner::OwnError;
use crate::sync::Ordering;
use std::os::fd::BorrowedFd;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Tries at once, then with the processor given up between, before the owner is to be asked.
const SPINS: u32 = 200;
const YIELDS: u32 = 20;

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Unread {
    /// The bucket kept changing, or its owner died in the middle of a change.
    Busy,
    /// This region is no longer the instance's.
    Retired,
}

/// An entry in the middle of a lookup: nothing is certain yet.
#[derive(Clone, Copy)]
pub struct Glimpse {
    pub offset: Offset,
    pub meta: Meta,
}

pub struct ShardReader {
    map: ReaderMap,
    hints: Hints,
    client: u64,
    seed: u64,
    index_base: u64,
    heap_base: u64,
}

impl ShardReader {
    pub fn open(data: BorrowedFd, hints: BorrowedFd) -> Result<ShardReader, OwnError> {
        let bytes = object_bytes(data)?;
        if bytes < header::BYTES {
            return Err(OwnError::Layout(format!("a data region of {bytes} bytes")));
        }
        let map = ReaderMap::new(data, bytes)?;
        crate::owner::check_header(|at| map.load(at), bytes)?;
        let hints = Hints::attach(hints, bytes - map.load(header::INDEX_BASE)).map_err(OwnError::Layout)?;
        let client = hints.register_client();
        let (seed, index_base, heap_base) = (
            map.load(header::HASH_SEED),
            map.load(header::INDEX_BASE),
            map.load(header::HEAP_BASE),
        );
        Ok(ShardReader {
            map,
            hints,
            client,
            seed,
            index_base,
            heap_base,
        })
    }

    pub fn header(&self, field: u64) -> u64 {
        self.map.load(field)
    }

    /// As `header`; what the owner wrote before this field is seen afterwards.
    pub fn header_acquire(&self, field: u64) -> u64 {
        self.map.word(field).load(Ordering::Acquire)
    }

    #[inline]
    fn state(&self) -> IndexState {
        IndexState(self.map.word(header::INDEX_STATE).load(Ordering::Acquire))
    }

    /// The key's hash in this shard.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    /// Warm the cache for a lookup: first the bucket, later, when that has come, the entry.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.map
            .prefetch(self.index_base + self.state().bucket_of(hash) * BUCKET_BYTES);
    }

    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        let at = self.index_base + self.state().bucket_of(hash) * BUCKET_BYTES;
        for place in 1..=PLACES as u64 {
            let word = IndexWord(self.map.load(at + place * WORD));
            if word.tag() == tag_of(hash) && !word.is_link() {
                self.map.prefetch(word.offset().0);
                self.map.prefetch(word.offset().0 + BUCKET_BYTES);
            }
        }
    }

    /// Find the key's live entry and copy what is wanted with `copy`, which may be called several times and whose result counts
    /// only if the lookup says so.
    #[inline]
    pub fn read<T>(&self, key: &[u8], copy: impl FnMut(&ReaderMap, Glimpse) -> T) -> Result<Option<T>, Unread> {
        self.read_hashed(self.hash(key), key, copy)
    }

    #[inline]
    pub fn read_hashed<T>(&self, hash: u64, key: &[u8], copy: impl FnMut(&ReaderMap, Glimpse) -> T) -> Result<Option<T>, Unread> {
        let found = self.find::<T, true>(hash, key, copy)?;
        Ok(found.map(|(value, place)| {
            self.touch(place);
            value
        }))
    }

    /// As `read`, but the entry as it is: also past its deadline, also a tombstone; and it counts as no access.
    pub fn read_raw<T>(&self, key: &[u8], copy: impl FnMut(&ReaderMap, Glimpse) -> T) -> Result<Option<T>, Unread> {
        let found = self.find::<T, false>(self.hash(key), key, copy)?;
        Ok(found.map(|(value, _)| value))
    }

    /// What `copy` made of the key's entry, and the place of its word. `LIVE`: only of one that a command would find.
    #[inline]
    fn find<T, const LIVE: bool>(
        &self,
        hash: u64,
        key: &[u8],
        mut copy: impl FnMut(&ReaderMap, Glimpse) -> T,
    ) -> Result<Option<(T, u64)>, Unread> {
        for attempt in 0..SPINS + YIELDS {
            if attempt > 0 {
                self.wait(attempt);
            }
            let state = self.state();
            if self.map.load(header::STATE) != STATE_SERVING {
                return Err(Unread::Retired);
            }
            let bucket = state.bucket_of(hash);
            let version = self.index_base + bucket * BUCKET_BYTES;
            let Some(ticket) = bucket::begin_read(self.map.word(version)) else {
                continue;
            };
            let Ok(found) = self.search(version, hash, key) else {
                continue;
            };
            let answer = match found {
                Some((glimpse, place)) if !LIVE || self.is_live(glimpse) => Some((copy(&self.map, glimpse), place)),
                _ => None,
            };
            if !bucket::validate(self.map.word(version), ticket) {
                continue;
            }
            let after = self.state();
            if after != state && (after.flush_epoch() != state.flush_epoch() || after.bucket_of(hash) != bucket) {
                continue;
            }
            return Ok(answer);
        }
        Err(Unread::Busy)
    }

    #[inline]
    fn deadline_of(&self, glimpse: Glimpse) -> u64 {
        if glimpse.meta.has_deadline() {
            self.map.load(glimpse.offset.0 + 2 * WORD)
        } else {
            0
        }
    }

    #[inline]
    fn is_live(&self, glimpse: Glimpse) -> bool {
        let deadline = self.deadline_of(glimpse);
        glimpse.meta.kind_code() != TOMBSTONE_CODE && (deadline == 0 || deadline > now_ms())
    }

    #[cold]
    fn wait(&self, attempt: u32) {
        self.hints.count(self.client, hints::CLIENT_RETRIES);
        if attempt < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }

    /// The entry in this chain and the place of its word, by what can be seen just now. Err: what is seen cannot be.
    #[inline]
    fn search(&self, version: u64, hash: u64, key: &[u8]) -> Result<Option<(Glimpse, u64)>, ()> {
        let tag = tag_of(hash);
        let mut at = version;
        for _ in 0..MAX_CHAIN {
            let mut next = None;
            for number in 0..PLACES {
                let word = IndexWord(self.map.load(at + WORD * (number as u64 + 1)));
                if word.is_link() {
                    next = Some(word.offset());
                } else if word.tag() == tag && !word.is_empty() {
                    let offset = word.offset();
                    let meta = self.meta_at(offset)?;
                    if meta.key_bytes() == key.len() as u64 && self.map.equals(offset.0 + meta.key_at(), key) {
                        return Ok(Some((Glimpse { offset, meta }, at + WORD * (number as u64 + 1))));
                    }
                }
            }
            match next {
                None => return Ok(None),
                Some(offset) => at = self.inside(offset, BUCKET_BYTES)?,
            }
        }
        Err(())
    }

    #[inline]
    fn inside(&self, offset: Offset, bytes: u64) -> Result<u64, ()> {
        let end = self.map.load(header::HEAP_COMMITTED).min(self.map.bytes());
        if offset.0 >= self.heap_base && offset.0 + bytes <= end {
            Ok(offset.0)
        } else {
            Err(())
        }
    }

    /// Meta word of an entry that lies, by its own account, inside the heap.
    #[inline]
    fn meta_at(&self, offset: Offset) -> Result<Meta, ()> {
        self.inside(offset, 2 * WORD)?;
        let meta = Meta(self.map.load(offset.0 + WORD));
        if meta.value_bytes() > MAX_VALUE_BYTES as u64 {
            return Err(());
        }
        self.inside(offset, meta.entry_bytes())?;
        Ok(meta)
    }

    #[inline]
    fn touch(&self, word_at: u64) {
        let mode = self.map.load(header::MARK_MODE);
        if mode != crate::hints::MARK_NONE {
            let (clock, factor) = (self.map.load(header::MARK_CLOCK), self.map.load(header::LFU_LOG_FACTOR));
            self.hints
                .touch(mark_at(self.index_base, word_at), mode, clock, factor, || self.random());
        }
    }

    #[inline]
    pub fn count(&self, hit: bool) {
        self.hints
            .count(self.client, if hit { hints::CLIENT_HITS } else { hints::CLIENT_MISSES });
    }

    pub fn random(&self) -> u64 {
        self.hints.random(self.client)
    }

    pub fn index_state(&self) -> IndexState {
        self.state()
    }

    /// Keys and kinds of one bucket's live entries, consistent. None: the bucket does not exist in the state that is in force.
    pub fn bucket_keys(&self, bucket: u64) -> Result<Vec<(Vec<u8>, u8)>, Unread> {
        for attempt in 0..SPINS + YIELDS {
            if attempt > 0 {
                self.wait(attempt);
            }
            if self.map.load(header::STATE) != STATE_SERVING {
                return Err(Unread::Retired);
            }
            let state = self.state();
            if bucket >= state.buckets() {
                return Ok(Vec::new());
            }
            let version = self.index_base + bucket * BUCKET_BYTES;
            let Some(ticket) = bucket::begin_read(self.map.word(version)) else {
                continue;
            };
            let Ok(keys) = self.collect(version) else { continue };
            if bucket::validate(self.map.word(version), ticket) && self.state() == state {
                return Ok(keys);
            }
        }
        Err(Unread::Busy)
    }

    fn collect(&self, version: u64) -> Result<Vec<(Vec<u8>, u8)>, ()> {
        let mut keys = Vec::new();
        let mut at = version;
        for _ in 0..MAX_CHAIN {
            let mut next = None;
            for number in 1..=PLACES as u64 {
                let word = IndexWord(self.map.load(at + WORD * number));
                if word.is_link() {
                    next = Some(word.offset());
                } else if !word.is_empty() && !word.is_tombstone() {
                    let meta = self.meta_at(word.offset())?;
                    if meta.key_bytes() > MAX_KEY_BYTES as u64 {
                        return Err(());
                    }
                    if !meta.is_part()
                        && self.is_live(Glimpse {
                            offset: word.offset(),
                            meta,
                        })
                    {
                        let mut key = vec![0; meta.key_bytes() as usize];
                        self.map.read(word.offset().0 + meta.key_at(), &mut key);
                        keys.push((key, meta.kind_code()));
                    }
                }
            }
            match next {
                None => return Ok(keys),
                Some(offset) => at = self.inside(offset, BUCKET_BYTES)?,
            }
        }
        Err(())
    }
}

impl Drop for ShardReader {
    fn drop(&mut self) {
        self.hints.release_client(self.client);
    }
}
