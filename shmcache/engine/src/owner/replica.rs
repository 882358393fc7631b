//! Replica mode: the shard repeats what a primary writes, and decides nothing by itself. It neither expires nor evicts (the primary's records
//! say what went), refuses writing commands, and is held to what region and system can give rather than to the memory limit: evicting would make
//! it another cache than its primary.

use super::create::page_limit;
use super::Owner;
use crate::layout::*;

/// Longest address that a refusal names.
pub const MAX_PRIMARY_BYTES: usize = 256;

impl Owner {
    pub fn is_replica(&self) -> bool {
        self.replica
    }

    pub fn set_replica(&mut self, replica: bool) {
        self.replica = replica;
        self.map.store(header::REPLICA, replica as u64);
        self.limit_pages();
    }

    /// Where to write instead, for the refusal. It is not kept in the region.
    pub fn set_primary(&mut self, address: &str) -> Result<(), String> {
        if address.len() > MAX_PRIMARY_BYTES {
            return Err(format!("an address has at most {MAX_PRIMARY_BYTES} bytes"));
        }
        self.primary = address.into();
        Ok(())
    }

    /// What a writing command is told.
    pub fn refusal(&self) -> String {
        if self.primary.is_empty() {
            return "this instance is a replica: write to its primary".into();
        }
        format!("this instance is a replica of {}: write there", self.primary)
    }

    /// Bytes that entries and index may take.
    #[inline]
    pub(super) fn memory_limit(&self) -> u64 {
        if self.replica {
            u64::MAX
        } else {
            self.memory_bytes
        }
    }

    pub(super) fn limit_pages(&mut self) {
        self.heap.page_limit = if self.replica {
            u64::MAX
        } else {
            page_limit(self.memory_bytes)
        };
    }
}
