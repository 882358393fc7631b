//! The owner's side of the hash index: linear hashing (Litwin 1980), so that it grows a bucket at a time and never pauses.
//!
//! The crash rule of every change: it is a sequence of single-word stores, and after each of them every key is
//! still found (perhaps twice: the repair removes the second). The bucket stays odd meanwhile, so no reader sees the middle.

use crate::bucket;
use crate::failpoint::{pass, FailPoint};
use crate::heap::{Full, Heap};
use crate::hints::{mark_at, Hints};
use crate::layout::*;
use crate::memory::OwnerMap;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Entries per bucket at which the index grows. Chosen by measurement of memory per key against
/// the length of chains: docs/layout.md.
pub const LOAD_NUMERATOR: u64 = 6;
pub const LOAD_DENOMINATOR: u64 = 1;
pub const FIRST_LEVEL: u32 = 8;

/// Where an index word stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub bucket: u64,
    /// Byte position of the word in the region.
    pub at: u64,
}

/// An entry that the index points at.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub place: Place,
    pub word: IndexWord,
    pub offset: Offset,
    pub meta: Meta,
}

/// Buckets that a chain may have. A real one has a few; one that goes round in a circle must not hold the owner for ever.
pub const MAX_CHAIN: u32 = 4096;

/// Count a step along a chain. A region whose chains have no end is damaged beyond what a repair mends: the owner stops, loudly.
#[inline(always)]
pub fn bounded(steps: &mut u32) {
    *steps += 1;
    assert!(*steps <= MAX_CHAIN, "the chain of a bucket has no end: the region is damaged");
}

/// Entries that a split put into the new bucket.
#[derive(Clone, Copy, Default)]
pub struct Moved {
    pub keys: u64,
    pub tombstones: u64,
    pub parts: u64,
}

pub struct Index {
    base: u64,
    seed: u64,
    pub state: IndexState,
    max_buckets: u64,
    committed_buckets: u64,
}

impl Index {
    pub fn new(map: &OwnerMap, max_buckets: u64) -> Index {
        Index {
            base: map.load(header::INDEX_BASE),
            seed: map.load(header::HASH_SEED),
            state: IndexState(map.load(header::INDEX_STATE)),
            max_buckets,
            committed_buckets: 0,
        }
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    #[inline]
    pub fn bucket_at(&self, bucket: u64) -> u64 {
        self.base + bucket * BUCKET_BYTES
    }

    /// Where the mark of the word at this place lies.
    #[inline]
    pub fn mark_at(&self, word_at: u64) -> u64 {
        mark_at(self.base, word_at)
    }

    /// Bytes that the buckets take (chained ones are in the heap).
    pub fn used_bytes(&self) -> u64 {
        self.state.buckets() * BUCKET_BYTES
    }

    /// A former owner took memory for the buckets that exist, and for their marks.
    pub fn assume_committed(&mut self, hints: &mut Hints) {
        self.committed_buckets = self.state.buckets();
        hints.assume_committed(self.mark_at(self.base), self.committed_buckets * WORD);
    }

    /// Memory for the first `buckets` buckets and their marks.
    pub fn commit_buckets(&mut self, map: &OwnerMap, hints: &mut Hints, buckets: u64) -> Result<(), Full> {
        if buckets <= self.committed_buckets {
            return Ok(());
        }
        if buckets > self.max_buckets {
            return Err(Full::Limit);
        }
        let step = 4096; // buckets: 256 KiB at a time
        let wanted = buckets.next_multiple_of(step).min(self.max_buckets);
        let from = self.bucket_at(self.committed_buckets);
        hints
            .commit_marks(self.mark_at(from), (wanted - self.committed_buckets) * WORD)
            .map_err(|_| Full::System)?;
        map.commit(from, (wanted - self.committed_buckets) * BUCKET_BYTES)
            .map_err(|_| Full::System)?;
        self.committed_buckets = wanted;
        pass(FailPoint::IndexGrown);
        Ok(())
    }

    #[inline]
    pub fn prefetch(&self, map: &OwnerMap, hash: u64) {
        map.prefetch(self.bucket_at(self.state.bucket_of(hash)));
    }

    /// The entry of a key.
    #[inline]
    pub fn find(&self, map: &OwnerMap, hash: u64, key: &[u8]) -> Option<Found> {
        let bucket = self.state.bucket_of(hash);
        let tag = tag_of(hash);
        let mut at = self.bucket_at(bucket);
        let mut steps = 0;
        loop {
            bounded(&mut steps);
            let mut next = None;
            for number in 0..PLACES {
                let word_at = at + WORD * (number as u64 + 1);
                let word = IndexWord(map.load(word_at));
                if word.is_link() {
                    next = Some(word.offset());
                } else if word.tag() == tag && !word.is_empty() {
                    let offset = word.offset();
                    let meta = Meta(map.load(offset.0 + WORD));
                    if meta.key_bytes() == key.len() as u64 && map.equals(offset.0 + meta.key_at(), key) {
                        return Some(Found {
                            place: Place { bucket, at: word_at },
                            word,
                            offset,
                            meta,
                        });
                    }
                }
            }
            at = next?.0;
        }
    }

    /// Call `visit` for each index word of a bucket's chain, links left out.
    #[inline]
    pub fn for_each(&self, map: &OwnerMap, bucket: u64, mut visit: impl FnMut(Place, IndexWord)) {
        let mut at = self.bucket_at(bucket);
        let mut steps = 0;
        loop {
            bounded(&mut steps);
            let mut next = None;
            for number in 0..PLACES {
                let word_at = at + WORD * (number as u64 + 1);
                let word = IndexWord(map.load(word_at));
                if word.is_link() {
                    next = Some(word.offset());
                } else if !word.is_empty() {
                    visit(Place { bucket, at: word_at }, word);
                }
            }
            match next {
                Some(offset) => at = offset.0,
                None => return,
            }
        }
    }

    #[inline]
    pub fn begin_change(&self, map: &mut OwnerMap, bucket: u64) {
        map.store(header::CHANGING_BUCKET, bucket + 1);
        bucket::begin_change(map.word(self.bucket_at(bucket)));
        pass(FailPoint::BucketOdd);
    }

    #[inline]
    pub fn end_change(&self, map: &mut OwnerMap, bucket: u64) {
        bucket::end_change(map.word(self.bucket_at(bucket)));
        pass(FailPoint::BucketEven);
    }

    /// Point a place at another entry, or at none.
    #[inline]
    pub fn swing(&self, map: &mut OwnerMap, place: Place, word: IndexWord) {
        self.begin_change(map, place.bucket);
        map.store(place.at, word.0);
        pass(FailPoint::WordSwung);
        self.end_change(map, place.bucket);
    }

    /// An empty place for a new key of this hash; makes an overflow bucket if there is none.
    pub fn empty_place(&self, map: &mut OwnerMap, heap: &mut Heap, hints: &mut Hints, hash: u64) -> Result<Place, Full> {
        let bucket = self.state.bucket_of(hash);
        let mut at = self.bucket_at(bucket);
        let mut steps = 0;
        loop {
            bounded(&mut steps);
            let mut next = None;
            for number in 0..PLACES {
                let word_at = at + WORD * (number as u64 + 1);
                let word = IndexWord(map.load(word_at));
                if word.is_empty() {
                    return Ok(Place { bucket, at: word_at });
                }
                if word.is_link() {
                    next = Some(word.offset());
                }
            }
            match next {
                Some(offset) => at = offset.0,
                None => {
                    let last_at = at + WORD * PLACES as u64;
                    let overflow = self.chain(map, heap, hints, bucket, last_at)?;
                    hints.set_mark(self.mark_at(overflow.0 + WORD), hints.mark(self.mark_at(last_at)));
                    return Ok(Place {
                        bucket,
                        at: overflow.0 + 2 * WORD,
                    });
                }
            }
        }
    }

    /// An overflow bucket, with memory for its marks.
    fn allocate_overflow(&self, map: &mut OwnerMap, heap: &mut Heap, hints: &mut Hints) -> Result<Offset, Full> {
        let overflow = heap.allocate_bucket(map)?;
        if hints.commit_marks(self.mark_at(overflow.0), WORD).is_err() {
            heap.free_bucket(map, overflow);
            return Err(Full::System);
        }
        Ok(overflow)
    }

    /// Replace the word at `last_at` by a link to a new overflow bucket that holds it.
    fn chain(&self, map: &mut OwnerMap, heap: &mut Heap, hints: &mut Hints, bucket: u64, last_at: u64) -> Result<Offset, Full> {
        let overflow = self.allocate_overflow(map, heap, hints)?;
        let displaced = map.load(last_at);
        for number in 0..=PLACES as u64 {
            map.store(overflow.0 + number * WORD, if number == 1 { displaced } else { 0 });
        }
        pass(FailPoint::OverflowFilled);
        self.begin_change(map, bucket);
        map.store(last_at, IndexWord::link(overflow).0);
        pass(FailPoint::OverflowLinked);
        self.end_change(map, bucket);
        Ok(overflow)
    }

    /// While the last overflow bucket of a chain holds at most one word, put that in place of the link.
    pub fn trim(&self, map: &mut OwnerMap, heap: &mut Heap, hints: &Hints, bucket: u64) {
        loop {
            let mut link_at = 0;
            let mut at = self.bucket_at(bucket);
            let mut steps = 0;
            loop {
                bounded(&mut steps);
                let last_at = at + WORD * PLACES as u64;
                let last = IndexWord(map.load(last_at));
                if !last.is_link() {
                    break;
                }
                link_at = last_at;
                at = last.offset().0;
            }
            if link_at == 0 {
                return;
            }
            let mut held = SmallVec::<[(u64, u64); PLACES]>::new();
            for word_at in (1..=PLACES as u64).map(|number| at + number * WORD) {
                if map.load(word_at) != 0 {
                    held.push((map.load(word_at), word_at));
                }
            }
            if held.len() > 1 {
                return;
            }
            if let Some(&(_, word_at)) = held.first() {
                hints.set_mark(self.mark_at(link_at), hints.mark(self.mark_at(word_at)));
            }
            self.begin_change(map, bucket);
            map.store(link_at, held.first().map_or(0, |&(word, _)| word));
            pass(FailPoint::ChainTrimmed);
            self.end_change(map, bucket);
            heap.free_bucket(map, Offset(at));
        }
    }

    /// True if a split is due at this number of entries.
    #[inline]
    pub fn wants_split(&self, entries: u64) -> bool {
        entries * LOAD_DENOMINATOR > self.state.buckets() * LOAD_NUMERATOR
    }

    /// Split one bucket in two; which entries went to the new one. An error leaves everything as it was (chains get longer instead).
    pub fn split(&mut self, map: &mut OwnerMap, heap: &mut Heap, hints: &mut Hints) -> Result<Moved, Full> {
        let old = self.state.split();
        let new = self.state.buckets();
        self.commit_buckets(map, hints, new + 1)?;
        // The next bucket's lines, so that its split does not wait for memory.
        map.prefetch(self.bucket_at(old + 1));
        let next = self.state.next();
        let mut stay = SmallVec::<[(u64, u8); 16]>::new();
        let mut go = SmallVec::<[(u64, u8); 16]>::new();
        let mut words = SmallVec::<[(Place, IndexWord); 16]>::new();
        self.for_each(map, old, |place, word| words.push((place, word)));
        for (_, word) in &words {
            map.prefetch(word.offset().0);
        }
        for (place, word) in words {
            let mark = hints.mark(self.mark_at(place.at));
            let goes = next.bucket_of(self.hash_of(map, word.offset())) == new;
            if goes { &mut go } else { &mut stay }.push((word.0, mark));
        }
        // Memory first: nothing may fail once the change has begun.
        let mut overflow = SmallVec::<[Offset; 4]>::new();
        let mut rest = go.len();
        while rest > PLACES {
            match self.allocate_overflow(map, heap, hints) {
                Ok(offset) => overflow.push(offset),
                Err(full) => {
                    for offset in overflow {
                        heap.free_bucket(map, offset);
                    }
                    return Err(full);
                }
            }
            rest -= PLACES - 1;
        }
        self.begin_change(map, old);
        // Nobody looks into the new bucket before the state says so, except a reader that was interrupted before
        // a flush: the odd version and the flush epoch stop that one.
        bucket::begin_change(map.word(self.bucket_at(new)));
        self.fill(map, hints, new, &go, &overflow);
        bucket::end_change(map.word(self.bucket_at(new)));
        pass(FailPoint::SplitFilled);
        self.state = next;
        map.publish(header::INDEX_STATE, next.0);
        pass(FailPoint::SplitPublished);
        self.close_ranks(map, hints, old, &stay);
        self.end_change(map, old);
        self.trim(map, heap, hints, old);
        let tombstones = go.iter().filter(|&&(word, _)| IndexWord(word).is_tombstone()).count() as u64;
        let is_part = |word: u64| Meta(map.load(IndexWord(word).offset().0 + WORD)).is_part();
        let parts = go.iter().filter(|&&(word, _)| is_part(word)).count() as u64;
        Ok(Moved {
            keys: go.len() as u64 - tombstones - parts,
            tombstones,
            parts,
        })
    }

    /// Write `words` into an unreachable bucket and its overflow buckets.
    fn fill(&self, map: &mut OwnerMap, hints: &Hints, bucket: u64, words: &[(u64, u8)], overflow: &[Offset]) {
        let mut at = self.bucket_at(bucket);
        let mut links = overflow.iter();
        let mut rest = words.iter().peekable();
        loop {
            let link = links.next();
            for number in 0..PLACES {
                let last = number == PLACES - 1;
                let word = match (last, link) {
                    (true, Some(&offset)) => IndexWord::link(offset).0,
                    _ => match rest.next() {
                        Some(&(word, mark)) => {
                            hints.set_mark(self.mark_at(at + (number as u64 + 1) * WORD), mark);
                            word
                        }
                        None => 0,
                    },
                };
                map.store(at + (number as u64 + 1) * WORD, word);
            }
            match link {
                Some(&offset) => at = offset.0,
                None => break,
            }
        }
        debug_assert!(rest.peek().is_none());
    }

    /// Leave only `stay` in a chain, moved to its front. Each word is written at or before the place it came from, in order,
    /// so that none is ever missing.
    fn close_ranks(&self, map: &mut OwnerMap, hints: &Hints, bucket: u64, stay: &[(u64, u8)]) {
        let mut at = self.bucket_at(bucket);
        let mut rest = stay.iter();
        let mut steps = 0;
        loop {
            bounded(&mut steps);
            let mut next = None;
            for number in 0..PLACES {
                let word_at = at + (number as u64 + 1) * WORD;
                let before = IndexWord(map.load(word_at));
                if before.is_link() {
                    next = Some(before.offset());
                    continue;
                }
                match rest.next() {
                    Some(&(word, mark)) => {
                        hints.set_mark(self.mark_at(word_at), mark);
                        map.store(word_at, word);
                    }
                    None => map.store(word_at, 0),
                }
                pass(FailPoint::SplitMoved);
            }
            match next {
                Some(offset) => at = offset.0,
                None => return,
            }
        }
    }

    /// Hash of the key of the entry at `offset`.
    pub fn hash_of(&self, map: &OwnerMap, offset: Offset) -> u64 {
        let meta = Meta(map.load(offset.0 + WORD));
        self.hash(map.slice(offset.0 + meta.key_at(), meta.key_bytes()))
    }

    /// Drop all entries at once. Readers in the middle of a lookup see the flush epoch change.
    pub fn flush(&mut self, map: &mut OwnerMap) {
        self.state = IndexState::new(self.state.flush_epoch().wrapping_add(1), FIRST_LEVEL, 0);
        map.publish(header::INDEX_STATE, self.state.0);
        pass(FailPoint::FlushEpoch);
        for bucket in 0..self.state.buckets() {
            self.begin_change(map, bucket);
            for number in 1..=PLACES as u64 {
                map.store(self.bucket_at(bucket) + number * WORD, 0);
            }
            pass(FailPoint::FlushBuckets);
            self.end_change(map, bucket);
        }
    }

    /// After an unclean stop: make the bucket that was being changed whole. Returns true if anything was mended.
    pub fn repair(&self, map: &mut OwnerMap, hints: &Hints, bucket: u64) -> bool {
        if bucket >= self.state.buckets() {
            return false;
        }
        // A split that died between its last stores left words behind that belong to the new half, or twice.
        let mut seen = SmallVec::<[u64; 16]>::new();
        let mut keep = SmallVec::<[(u64, u8); 16]>::new();
        let mut dropped = false;
        let mut words = SmallVec::<[(Place, IndexWord); 16]>::new();
        self.for_each(map, bucket, |place, word| words.push((place, word)));
        for (place, word) in words {
            if seen.contains(&word.0) || self.state.bucket_of(self.hash_of(map, word.offset())) != bucket {
                dropped = true;
                continue;
            }
            seen.push(word.0);
            keep.push((word.0, hints.mark(self.mark_at(place.at))));
        }
        let was_odd = map.load(self.bucket_at(bucket)) & 1 == 1;
        if dropped {
            self.begin_change(map, bucket);
            self.close_ranks(map, hints, bucket, &keep);
            self.end_change(map, bucket);
        } else if was_odd {
            self.begin_change(map, bucket);
            self.end_change(map, bucket);
        }
        was_odd || dropped
    }
}
