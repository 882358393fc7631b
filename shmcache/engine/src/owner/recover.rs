//! Owning regions that a former owner left, however it ended.

use super::create::{buckets_in, OwnError};
use super::rebuild::Walk;
use super::{prepared, Owner};
use crate::clock::now_ms;
use crate::deadlines::Deadlines;
use crate::heap::Heap;
use crate::hints::Hints;
use crate::index::Index;
use crate::layout::*;
use crate::log::record::records;
use crate::log::tailer::{map_log, read_groups, TailError};
use crate::log::LogWriter;
use crate::memory::{object_bytes, OwnerMap, SharedMap};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// What owning the regions took.
#[derive(Debug, Default, Clone)]
pub struct Recovery {
    pub created: bool,
    /// The former owner closed them.
    pub clean: bool,
    pub keys: u64,
    pub repaired_buckets: u64,
    pub redone_records: u64,
    pub duration_us: u64,
}

/// Check a data region's header; returns its size.
pub fn check_header(load: impl Fn(u64) -> u64, object_bytes: u64) -> Result<(), OwnError> {
    if load(header::MAGIC) != MAGIC_DATA {
        return Err(OwnError::Layout(
            "not a shmcache data region (or its creation was interrupted)".into(),
        ));
    }
    let version = load(header::LAYOUT_VERSION);
    if version != LAYOUT_VERSION {
        return Err(OwnError::Layout(format!(
            "the region has layout version {version}, this program has {LAYOUT_VERSION}"
        )));
    }
    let (table, index, heap, committed, bytes) = (
        load(header::PAGE_TABLE_BASE),
        load(header::INDEX_BASE),
        load(header::HEAP_BASE),
        load(header::HEAP_COMMITTED),
        load(header::REGION_BYTES),
    );
    let in_order = header::BYTES <= table
        && table < index
        && index < heap
        && heap <= committed
        && committed <= bytes
        && bytes <= object_bytes;
    let aligned = table == header::BYTES
        && [index, heap, committed].iter().all(|at| at.is_multiple_of(PAGE_BYTES))
        && table + (committed.max(heap) - heap) / PAGE_BYTES <= index;
    let state = IndexState(load(header::INDEX_STATE));
    let plausible = state.level() < 40 && state.split() < 1 << state.level() && index + state.buckets() * BUCKET_BYTES <= heap;
    if !in_order || !aligned || !plausible {
        return Err(OwnError::Damaged("the header's numbers contradict each other".into()));
    }
    Ok(())
}

impl Owner {
    pub fn attach(data: BorrowedFd, hints: BorrowedFd, log: BorrowedFd) -> Result<Owner, OwnError> {
        Owner::attach_deciding(data, hints, log, false)
    }

    /// `commit`: another shard's decision about what the former owner may have prepared (`prepared.rs`).
    pub fn attach_deciding(data: BorrowedFd, hints: BorrowedFd, log: BorrowedFd, commit: bool) -> Result<Owner, OwnError> {
        let begun = Instant::now();
        let bytes = object_bytes(data)?;
        if bytes < header::BYTES {
            return Err(OwnError::Layout(format!("a data region of {bytes} bytes")));
        }
        let mut map = OwnerMap::new(data, bytes)?;
        check_header(|at| map.load(at), bytes)?;
        let mut hints = Hints::attach(hints, bytes - map.load(header::INDEX_BASE)).map_err(OwnError::Layout)?;
        hints.restore_header();
        let log_map = map_log(log).map_err(|error| match error {
            TailError::Io(error) => OwnError::Io(error),
            other => OwnError::Layout(format!("the log: {other:?}")),
        })?;
        let mut recovery = Recovery {
            clean: map.load(header::CLEAN) == 1,
            ..Recovery::default()
        };

        let mut index = Index::new(&map, buckets_in(&map));
        index.assume_committed(&mut hints);
        let changing = map.load(header::CHANGING_BUCKET);
        if !recovery.clean && changing != 0 && index.repair(&mut map, &hints, changing - 1) {
            recovery.repaired_buckets += 1;
        }
        let resolved = prepared::resolve(&mut map, &log_map, commit);
        let redo = redo_records(&map, &log_map)?;
        let marks_bytes = index.used_bytes() / BUCKET_BYTES * (BUCKET_BYTES + WORD);
        let used_bytes = map.load(header::USED_BYTES).saturating_sub(marks_bytes);
        let heap = Heap::unknown(&map, used_bytes).ok_or_else(|| OwnError::Damaged("the page table is impossible".into()))?;
        let keys = map.load(header::KEYS);

        let mut last_stamp = map.load(header::LAST_STAMP);
        let mut seq = map.load(header::APPLIED_SEQ);
        for (record, _) in records(&redo).flatten() {
            last_stamp = last_stamp.max(record.stamp);
            seq = record.seq;
        }
        let deadlines = Deadlines::new(map.load(header::CREATED_MS).min(now_ms()), index.state.buckets(), false);
        let log = LogWriter::attach(log_map, seq);
        let mut owner = Owner::assemble(map, heap, index, hints, log, deadlines, recovery, keys, last_stamp, begun);
        owner.resolved = resolved;
        // Redoing needs no more memory than the limit had granted, but must not evict before all of it is done.
        owner.walk = Some(Walk::default());
        owner.heap.page_limit = u64::MAX;
        let limit = std::mem::replace(&mut owner.memory_bytes, u64::MAX);
        for (record, _) in records(&redo).flatten() {
            owner.redo(&record)?;
            owner.recovery.redone_records += 1;
        }
        owner.memory_bytes = limit;
        owner.limit_pages();
        owner.applied();
        owner.publish_gauges();
        owner.recovery.keys = owner.keys;
        owner.recovery.duration_us = begun.elapsed().as_micros() as u64;
        owner.serve();
        Ok(owner)
    }
}

/// The log records that the data may not have.
fn redo_records(map: &OwnerMap, log: &SharedMap) -> Result<Vec<u8>, OwnError> {
    let mut redo = Vec::new();
    let mut position = map.load(header::APPLIED_POSITION);
    let head = log.load(crate::layout::log::HEAD);
    let tail = log.load(crate::layout::log::TAIL);
    if position > head || position < tail || [position, head, tail].iter().any(|at| !at.is_multiple_of(WORD)) {
        return Err(OwnError::Damaged(format!(
            "the data is applied to log position {position}, the log has up to {head}"
        )));
    }
    while position < head {
        position = read_groups(log, position, usize::MAX, &mut redo)
            .map_err(|error| OwnError::Damaged(format!("the log: {error:?}")))?;
    }
    Ok(redo)
}
