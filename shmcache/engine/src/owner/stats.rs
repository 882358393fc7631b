//! Counters since the owner started, and the gauges of its shard.

use super::Owner;
use crate::hints::ClientTotals;
use crate::log::tailer::tailers;
use crate::log::waiting;

#[derive(Default)]
pub struct Counters {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    pub evicted: u64,
    pub commands: u64,
    pub batches: u64,
    pub errors: u64,
    pub compactions: u64,
    /// Deletions that were forgotten before their time, or not remembered at all, for want of memory.
    pub tombstones_dropped: u64,
}

/// All of it at one moment.
pub struct Stats {
    pub keys: u64,
    pub tombstones: u64,
    pub parts: u64,
    pub flush_marks: u64,
    pub flush_marks_dropped: u64,
    pub used_bytes: u64,
    pub memory_bytes: u64,
    pub heap_used_bytes: u64,
    pub heap_committed_bytes: u64,
    pub heap_free_page_bytes: u64,
    pub index_bytes: u64,
    pub hints_bytes: u64,
    pub log_bytes: u64,
    pub log_head: u64,
    pub log_seq: u64,
    pub last_stamp: u64,
    pub buckets: u64,
    pub clients: ClientTotals,
    pub tailers: Vec<(String, u64, u64, u64)>,
}

impl Owner {
    /// True while the walk after an attach is under way: keys and memory are estimates.
    pub fn is_rebuilding(&self) -> bool {
        self.walk.is_some()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            keys: self.keys,
            tombstones: self.tombstones,
            parts: self.parts,
            flush_marks: self.flush_marks.count(),
            flush_marks_dropped: self.flush_marks.dropped,
            used_bytes: self.used_bytes(),
            memory_bytes: self.memory_bytes,
            heap_used_bytes: self.heap.used_bytes(),
            heap_committed_bytes: self.heap.committed_bytes(),
            heap_free_page_bytes: self.heap.free_page_bytes(),
            index_bytes: self.index.used_bytes(),
            hints_bytes: self.hints.committed_bytes(),
            log_bytes: self.log.ring_bytes(),
            log_head: self.log.head(),
            log_seq: self.log.seq,
            last_stamp: self.last_stamp,
            buckets: self.index.state.buckets(),
            clients: self.hints.clients(),
            tailers: tailers(self.log.map()),
        }
    }

    /// Names of the tailers that sleep and now have something to read: to be called after writes, each name comes once per sleep.
    pub fn waiting_tailers(&self) -> Vec<String> {
        waiting::take_names(self.log.map())
    }
}
