//! Eviction by sampling, as Redis does it (antirez, "Random notes on improving the Redis LRU algorithm", 2016), fed by the marks that
//! readers leave: a whole bucket is a sample, since its entries and their marks are two cache lines. The best candidates seen
//! stay in a pool between evictions.

use super::tombstone::DROP_PROBES;
use super::Owner;
use crate::hints::{Hints, COUNTER_INIT, MARK_CLOCK, MARK_COUNTER, MARK_NONE};
use crate::index::{Found, Place};
use crate::layout::*;
use crate::log::Effect;
use crate::memory::OwnerMap;

const POOL: usize = 16;
/// The clock turns each time 1/TICKS of the keys has been written.
const TICKS: u64 = 64;
/// Older than this many ticks is all the same, and is kept from looking young.
const OLDEST: u8 = 176;
/// Buckets to look into before a sampling gives up (sparse index, few volatile keys).
const MAX_PROBES: u32 = 2000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Policy {
    NoEviction = 0,
    AllKeysLru = 1,
    AllKeysLfu = 2,
    AllKeysRandom = 3,
    VolatileLru = 4,
    VolatileLfu = 5,
    VolatileRandom = 6,
    VolatileTtl = 7,
}

impl Policy {
    pub const ALL: [(&'static str, Policy); 8] = [
        ("noeviction", Policy::NoEviction),
        ("allkeys-lru", Policy::AllKeysLru),
        ("allkeys-lfu", Policy::AllKeysLfu),
        ("allkeys-random", Policy::AllKeysRandom),
        ("volatile-lru", Policy::VolatileLru),
        ("volatile-lfu", Policy::VolatileLfu),
        ("volatile-random", Policy::VolatileRandom),
        ("volatile-ttl", Policy::VolatileTtl),
    ];

    pub fn from_name(name: &str) -> Option<Policy> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, policy)| policy)
    }

    pub fn from_code(code: u64) -> Policy {
        Self::ALL
            .iter()
            .find(|&&(_, policy)| policy as u64 == code)
            .map_or(Policy::NoEviction, |&(_, policy)| policy)
    }

    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|&&(_, policy)| policy == self)
            .expect("all policies are listed")
            .0
    }

    fn volatile_only(self) -> bool {
        matches!(
            self,
            Policy::VolatileLru | Policy::VolatileLfu | Policy::VolatileRandom | Policy::VolatileTtl
        )
    }

    fn mark_mode(self) -> u64 {
        match self {
            Policy::AllKeysLru | Policy::VolatileLru => MARK_CLOCK,
            Policy::AllKeysLfu | Policy::VolatileLfu => MARK_COUNTER,
            _ => MARK_NONE,
        }
    }
}

/// A candidate: worth evicting the more, the higher its score. It may be gone or changed by the time it is looked at again.
#[derive(Clone, Copy)]
struct Candidate {
    score: u64,
    bucket: u64,
    word: IndexWord,
}

pub struct Evictor {
    pub policy: Policy,
    pub samples: u64,
    pub lfu_log_factor: u64,
    pub lfu_decay_ms: u64,
    mode: u64,
    clock: u64,
    writes: u64,
    sweep_bucket: u64,
    decayed_ms: u64,
    pool: Vec<Candidate>,
    seed: u64,
}

impl Evictor {
    pub fn new(map: &OwnerMap) -> Evictor {
        let policy = Policy::from_code(map.load(header::POLICY));
        Evictor {
            policy,
            samples: map.load(header::SAMPLES).clamp(1, 64),
            lfu_log_factor: map.load(header::LFU_LOG_FACTOR),
            lfu_decay_ms: map.load(header::LFU_DECAY_MS),
            mode: policy.mark_mode(),
            clock: map.load(header::MARK_CLOCK) & 0xff,
            writes: 0,
            sweep_bucket: 0,
            decayed_ms: 0,
            pool: Vec::with_capacity(POOL + 1),
            seed: map.load(header::HASH_SEED) | 1,
        }
    }

    /// Put the settings where readers and later owners find them.
    pub fn publish(&mut self, map: &mut OwnerMap) {
        self.mode = self.policy.mark_mode();
        self.pool.clear();
        map.store(header::POLICY, self.policy as u64);
        map.store(header::SAMPLES, self.samples);
        map.store(header::LFU_LOG_FACTOR, self.lfu_log_factor);
        map.store(header::LFU_DECAY_MS, self.lfu_decay_ms);
        map.store(header::MARK_CLOCK, self.clock);
        map.publish(header::MARK_MODE, self.mode);
    }

    /// xorshift64 (Marsaglia 2003): sampling needs speed, not secrecy.
    #[inline]
    pub fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    #[inline]
    pub fn touch(&mut self, hints: &Hints, at: u64) {
        let (mode, clock, factor) = (self.mode, self.clock, self.lfu_log_factor);
        hints.touch(at, mode, clock, factor, || self.random());
    }

    #[inline]
    pub fn mark_new(&mut self, hints: &Hints, at: u64) {
        match self.mode {
            MARK_CLOCK => hints.set_mark(at, self.clock as u8),
            MARK_COUNTER => hints.set_mark(at, COUNTER_INIT),
            _ => {}
        }
    }

    pub fn forget(&mut self) {
        self.pool.clear();
    }

    fn score(&mut self, map: &OwnerMap, hints: &Hints, mark: u64, word: IndexWord) -> u64 {
        match self.policy {
            Policy::AllKeysLru | Policy::VolatileLru => (self.clock as u8).wrapping_sub(hints.mark(mark)) as u64,
            Policy::AllKeysLfu | Policy::VolatileLfu => u64::from(u8::MAX - hints.mark(mark)),
            Policy::VolatileTtl => u64::MAX - map.load(word.offset().0 + 2 * WORD),
            _ => self.random(),
        }
    }

    fn offer(&mut self, candidate: Candidate) {
        if self.pool.iter().any(|pooled| pooled.word == candidate.word) {
            return;
        }
        let at = self.pool.partition_point(|pooled| pooled.score <= candidate.score);
        if self.pool.len() == POOL {
            if at == 0 {
                return;
            }
            self.pool.remove(0);
            self.pool.insert(at - 1, candidate);
        } else {
            self.pool.insert(at, candidate);
        }
    }
}

impl Owner {
    /// One key was written: turn the clock when it is time, and sweep on.
    #[inline]
    pub(super) fn turn_clock(&mut self) {
        if self.evictor.mode != MARK_CLOCK {
            return;
        }
        self.evictor.writes += 1;
        if self.evictor.writes.is_multiple_of(4) {
            // A round over all buckets takes 0.7 turns of the keys (4 writes a bucket of 6), less than the 1.25 that lie between
            // OLDEST and the wrap.
            self.evictor.sweep_bucket = (self.evictor.sweep_bucket + 1) % self.index.state.buckets();
            let clock = self.evictor.clock as u8;
            self.change_marks(self.evictor.sweep_bucket, |mark| {
                if clock.wrapping_sub(mark) > OLDEST {
                    clock.wrapping_sub(OLDEST)
                } else {
                    mark
                }
            });
        }
        if self.evictor.writes >= (self.keys / TICKS).max(8) {
            self.evictor.writes = 0;
            self.evictor.clock = (self.evictor.clock + 1) & 0xff;
            self.map.store(header::MARK_CLOCK, self.evictor.clock);
        }
    }

    /// Lower all access counters by one per `lfu_decay_ms`, `slice` buckets at a time. True while a round is under way.
    pub(super) fn decay_counters(&mut self, slice: u64) -> bool {
        let evictor = &mut self.evictor;
        if evictor.mode != MARK_COUNTER || evictor.lfu_decay_ms == 0 {
            return false;
        }
        if evictor.decayed_ms == 0 {
            evictor.decayed_ms = self.now_ms;
        }
        if evictor.sweep_bucket == 0 {
            if self.now_ms < evictor.decayed_ms + evictor.lfu_decay_ms {
                return false;
            }
            evictor.decayed_ms = self.now_ms;
        }
        let buckets = self.index.state.buckets();
        let end = (evictor.sweep_bucket + slice).min(buckets);
        for bucket in evictor.sweep_bucket..end {
            self.change_marks(bucket, |mark| mark.saturating_sub(1));
        }
        self.evictor.sweep_bucket = if end >= buckets { 0 } else { end };
        self.evictor.sweep_bucket != 0
    }

    fn change_marks(&self, bucket: u64, change: impl Fn(u8) -> u8) {
        self.index.for_each(&self.map, bucket, |place, _| {
            let at = self.index.mark_at(place.at);
            let (old, new) = (self.hints.mark(at), change(self.hints.mark(at)));
            if new != old {
                self.hints.set_mark(at, new);
            }
        });
    }

    /// Forget a deletion, else evict the best of some sampled entries. False if the policy forbids it or there is nothing it could take.
    pub(super) fn evict_one(&mut self) -> bool {
        if self.free_dying() || self.drop_tombstone(DROP_PROBES) {
            return true;
        }
        if self.replica || self.evictor.policy == Policy::NoEviction || self.keys == 0 {
            return self.drop_tombstone(u64::MAX);
        }
        for _ in 0..4 {
            self.sample();
            while let Some(candidate) = self.evictor.pool.pop() {
                if let Some(found) = self.revisit(&candidate) {
                    self.erase(&found, Effect::Evicted);
                    return true;
                }
            }
        }
        self.drop_tombstone(u64::MAX)
    }

    /// Put the entries of random buckets into the pool until `samples` have been seen.
    fn sample(&mut self) {
        let buckets = self.index.state.buckets();
        let volatile_only = self.evictor.policy.volatile_only();
        let mut seen = 0;
        let mut places = smallvec::SmallVec::<[(Place, IndexWord); 16]>::new();
        for _ in 0..MAX_PROBES {
            if seen >= self.evictor.samples {
                return;
            }
            let bucket = self.evictor.random() % buckets;
            places.clear();
            self.index.for_each(&self.map, bucket, |place, word| {
                if !word.is_tombstone() && (!volatile_only || word.has_deadline()) {
                    places.push((place, word));
                }
            });
            // A collection is evicted whole, by its root.
            if self.parts > 0 {
                places.retain(|(_, word)| !Meta(self.map.load(word.offset().0 + WORD)).is_part());
            }
            for &(place, word) in &places {
                let score = self.evictor.score(&self.map, &self.hints, self.index.mark_at(place.at), word);
                self.evictor.offer(Candidate { score, bucket, word });
                seen += 1;
            }
        }
    }

    /// The candidate's entry, if it is still there, not used since, and no open group is about to change it.
    fn revisit(&mut self, candidate: &Candidate) -> Option<Found> {
        if candidate.bucket >= self.index.state.buckets() {
            return None;
        }
        let found = self.found_word(candidate.bucket, candidate.word)?;
        let random = matches!(self.evictor.policy, Policy::AllKeysRandom | Policy::VolatileRandom);
        if !random
            && self
                .evictor
                .score(&self.map, &self.hints, self.index.mark_at(found.place.at), candidate.word)
                < candidate.score
        {
            return None;
        }
        if self
            .group
            .as_ref()
            .is_some_and(|group| group.contains(self.key_at(found.offset)))
        {
            return None;
        }
        if found.meta.is_collection() && self.is_pinned(found.offset) {
            return None;
        }
        Some(found)
    }
}
