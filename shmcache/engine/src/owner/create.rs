//! Making a shard's regions, opening those that are there, and changing settings live.

use super::collections::Collections;
use super::evict::Evictor;
use super::group::Group;
use super::large::CompactLimits;
use super::marks::FlushMarks;
use super::stats::Counters;
use super::tombstone::{DEFAULT_TOMBSTONE_LIFE_MS, MAX_TOMBSTONE_LIFE_MS};
use super::{Owner, Policy, Recovery};
use crate::clock::now_ms;
use crate::deadlines::Deadlines;
use crate::heap::classes::CLASSES;
use crate::heap::Heap;
use crate::hints::Hints;
use crate::index::{Index, FIRST_LEVEL};
use crate::layout::*;
use crate::log::writer::MIN_LOG_BYTES;
use crate::log::LogWriter;
use crate::memory::{format_object, OwnerMap};
use smallvec::SmallVec;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// Why regions cannot be owned.
#[derive(Debug)]
pub enum OwnError {
    /// A setting is out of its bounds.
    Setting(String),
    /// The region is not one of ours or of another layout version.
    Layout(String),
    /// The region contradicts itself.
    Damaged(String),
    NoSpace(String),
    Io(io::Error),
}

impl From<io::Error> for OwnError {
    fn from(error: io::Error) -> OwnError {
        match error.raw_os_error() {
            Some(libc::ENOSPC) | Some(libc::ENOMEM) => OwnError::NoSpace(error.to_string()),
            _ => OwnError::Io(error),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    pub memory_bytes: u64,
    /// Address space for the heap: the memory limit can be raised up to this.
    pub capacity_bytes: u64,
    pub log_bytes: u64,
    pub shard: u64,
    pub shards: u64,
    pub policy: Policy,
}

pub const MIN_CAPACITY_BYTES: u64 = 64 << 20;
pub const MAX_CAPACITY_BYTES: u64 = 16 << 40;
pub const MAX_LOG_BYTES: u64 = 1 << 30;
pub const DEFAULT_SAMPLES: u64 = 5;
pub const DEFAULT_LFU_LOG_FACTOR: u64 = 10;
pub const DEFAULT_LFU_DECAY_MS: u64 = 60_000;
/// Least bytes that a key costs: entry, its share of a bucket. Bounds the index by the heap.
const LEAST_KEY_BYTES: u64 = 32;

/// Pages that may be committed for a memory limit: the limit counts what entries take, and slabs of many classes are never all
/// full. Compaction keeps the rest within an eighth plus one slab per class.
pub fn page_limit(memory_bytes: u64) -> u64 {
    (memory_bytes + memory_bytes / 8) / PAGE_BYTES + CLASSES as u64 * SLAB_PAGES + EXTENT_BYTES / PAGE_BYTES
}

fn max_buckets(capacity_bytes: u64) -> u64 {
    capacity_bytes / LEAST_KEY_BYTES / 4
}

impl Owner {
    /// Format three objects, whatever they held, and own them.
    pub fn create(data: BorrowedFd, hints: BorrowedFd, log: BorrowedFd, options: &Options) -> Result<Owner, OwnError> {
        let begun = Instant::now();
        if options.memory_bytes < MIN_MEMORY_BYTES {
            return Err(OwnError::Setting(format!(
                "memory_bytes is {}, the least is {MIN_MEMORY_BYTES}",
                options.memory_bytes
            )));
        }
        if options.capacity_bytes < options.memory_bytes || options.capacity_bytes > MAX_CAPACITY_BYTES {
            return Err(OwnError::Setting(format!(
                "capacity_bytes is {}, it must be between memory_bytes and {MAX_CAPACITY_BYTES}",
                options.capacity_bytes
            )));
        }
        if options.log_bytes < MIN_LOG_BYTES || options.log_bytes > MAX_LOG_BYTES || !options.log_bytes.is_multiple_of(PAGE_BYTES)
        {
            return Err(OwnError::Setting(format!(
                "log_bytes is {}, it must be a multiple of {PAGE_BYTES} between {MIN_LOG_BYTES} and {MAX_LOG_BYTES}",
                options.log_bytes
            )));
        }
        let heap_pages = (page_limit(options.capacity_bytes) * PAGE_BYTES).next_multiple_of(EXTENT_BYTES) / PAGE_BYTES;
        let buckets = max_buckets(options.capacity_bytes);
        let page_table_base = header::BYTES;
        let index_base = (page_table_base + heap_pages).next_multiple_of(EXTENT_BYTES);
        let heap_base = (index_base + buckets * BUCKET_BYTES).next_multiple_of(EXTENT_BYTES);
        let region_bytes = heap_base + heap_pages * PAGE_BYTES;
        format_object(data, region_bytes, page_table_base + heap_pages)?;
        let mut map = OwnerMap::new(data, region_bytes)?;
        let log = LogWriter::create(log, options.log_bytes)?;
        let now = now_ms();
        let state = IndexState::new(0, FIRST_LEVEL, 0);
        for (field, value) in [
            (header::LAYOUT_VERSION, LAYOUT_VERSION),
            (header::REGION_BYTES, region_bytes),
            (header::PAGE_TABLE_BASE, page_table_base),
            (header::INDEX_BASE, index_base),
            (header::HEAP_BASE, heap_base),
            (header::HASH_SEED, random_seed()),
            (header::SHARD, options.shard),
            (header::SHARDS, options.shards),
            (header::CREATED_MS, now),
            (header::INDEX_STATE, state.0),
            (header::HEAP_COMMITTED, heap_base),
            (header::MEMORY_BYTES, options.memory_bytes),
            (header::POLICY, options.policy as u64),
            (header::SAMPLES, DEFAULT_SAMPLES),
            (header::LFU_LOG_FACTOR, DEFAULT_LFU_LOG_FACTOR),
            (header::LFU_DECAY_MS, DEFAULT_LFU_DECAY_MS),
        ] {
            map.store(field, value);
        }
        let mut index = Index::new(&map, buckets);
        let mut hints = Hints::create(hints, region_bytes - index_base)?;
        index
            .commit_buckets(&map, &mut hints, state.buckets())
            .map_err(|_| OwnError::NoSpace("no memory for the index".into()))?;
        let heap = Heap::new(&map);
        let deadlines = Deadlines::new(now, state.buckets(), true);
        // Last: before this the region is nobody's.
        map.publish(header::MAGIC, MAGIC_DATA);
        let recovery = Recovery {
            created: true,
            clean: true,
            ..Recovery::default()
        };
        let mut owner = Owner::assemble(map, heap, index, hints, log, deadlines, recovery, 0, 0, begun);
        owner.serve();
        Ok(owner)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn assemble(
        map: OwnerMap,
        heap: Heap,
        index: Index,
        hints: Hints,
        log: LogWriter,
        deadlines: Deadlines,
        recovery: Recovery,
        keys: u64,
        last_stamp: u64,
        begun: Instant,
    ) -> Owner {
        let evictor = Evictor::new(&map);
        let mut owner = Owner {
            heap,
            index,
            hints,
            log,
            deadlines,
            evictor,
            group: None::<Group>,
            prepared: None,
            walk: None,
            now_ms: now_ms(),
            last_stamp,
            keys,
            tombstones: map.load(header::TOMBSTONES),
            parts: map.load(header::PARTS),
            collections: Collections::default(),
            scan_places: Default::default(),
            pinned: SmallVec::new(),
            compact_limits: CompactLimits::default(),
            event: 0,
            committing: false,
            tombstone_life_ms: match map.load(header::TOMBSTONE_LIFE_MS) {
                0 => DEFAULT_TOMBSTONE_LIFE_MS,
                life => life.min(MAX_TOMBSTONE_LIFE_MS),
            },
            tombstone_bucket: 0,
            flush_marks: FlushMarks::load(&map),
            memory_bytes: map.load(header::MEMORY_BYTES),
            epoch: map.load(header::EPOCH) as u32,
            node: map.load(header::NODE).min(MAX_NODE as u64) as u16,
            generation: map.load(header::GENERATION) + 1,
            replica: map.load(header::REPLICA) != 0,
            primary: String::new(),
            stale_to: 0,
            slots: None,
            held_slots: map.load(header::HELD_SLOTS),
            counters: Counters::default(),
            recovery,
            resolved: None,
            map,
        };
        owner.limit_pages();
        owner.map.store(header::CLEAN, 0);
        owner.map.store(header::OWNER_PID, std::process::id() as u64);
        owner.map.store(header::HEARTBEAT_MS, owner.now_ms);
        owner.map.store(header::GENERATION, owner.generation);
        owner.evictor.publish(&mut owner.map);
        owner.publish_gauges();
        owner.recovery.keys = owner.keys;
        owner.recovery.duration_us = begun.elapsed().as_micros() as u64;
        owner
    }

    /// Readers may read: called when recovery is through.
    pub(super) fn serve(&mut self) {
        self.map.publish(header::STATE, STATE_SERVING);
    }

    pub fn retire(&mut self) {
        self.map.publish(header::STATE, STATE_RETIRED);
    }

    /// A clean stop.
    pub fn close(&mut self) {
        self.publish_gauges();
        self.map.publish(header::CLEAN, 1);
        self.map.publish(header::OWNER_PID, 0);
    }

    pub fn set_memory(&mut self, memory_bytes: u64) -> Result<(), String> {
        let most = (self.map.bytes() - self.map.load(header::HEAP_BASE)) / 9 * 8;
        if memory_bytes < MIN_MEMORY_BYTES || memory_bytes > most {
            return Err(format!(
                "memory_bytes is {memory_bytes}, this region allows {MIN_MEMORY_BYTES} to {most}"
            ));
        }
        self.memory_bytes = memory_bytes;
        self.limit_pages();
        self.map.store(header::MEMORY_BYTES, memory_bytes);
        Ok(())
    }

    pub fn set_policy(&mut self, policy: Policy) {
        self.evictor.policy = policy;
        self.evictor.publish(&mut self.map);
    }

    pub fn set_sampling(
        &mut self,
        samples: Option<u64>,
        lfu_log_factor: Option<u64>,
        lfu_decay_ms: Option<u64>,
    ) -> Result<(), String> {
        if let Some(samples) = samples {
            if !(1..=64).contains(&samples) {
                return Err(format!("samples is {samples}, it must be 1 to 64"));
            }
            self.evictor.samples = samples;
        }
        self.evictor.lfu_log_factor = lfu_log_factor.unwrap_or(self.evictor.lfu_log_factor).min(1 << 20);
        self.evictor.lfu_decay_ms = lfu_decay_ms.unwrap_or(self.evictor.lfu_decay_ms);
        self.evictor.publish(&mut self.map);
        Ok(())
    }

    pub fn set_epoch(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.map.store(header::EPOCH, epoch as u64);
    }

    /// Be writer number `node` of several, 0: the only one.
    pub fn set_node(&mut self, node: u64) -> Result<(), String> {
        if node > MAX_NODE as u64 {
            return Err(format!("node is {node}, it must be 0 to {MAX_NODE}"));
        }
        self.node = node as u16;
        self.map.store(header::NODE, node);
        Ok(())
    }

    pub fn policy(&self) -> Policy {
        self.evictor.policy
    }

    pub fn samples(&self) -> u64 {
        self.evictor.samples
    }
}

/// Keys that collide on purpose must not be computable: the seed comes from the kernel (by way of std's hasher keys).
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

pub(super) fn buckets_in(map: &OwnerMap) -> u64 {
    (map.load(header::HEAP_BASE) - map.load(header::INDEX_BASE)) / BUCKET_BYTES
}
