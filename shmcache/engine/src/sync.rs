//! The only door to atomics, so that `loom` can stand in for them in the protocol models.
//!
//! [`Word`] is a 64-bit place in shared memory. The protocols in `bucket.rs`, `ring.rs` and `waiting.rs` are written
//! against it; the engine runs them on words of a mapping, the models on loom's.

#[cfg(not(loom))]
pub use std::sync::atomic::{fence, AtomicU64, Ordering};

#[cfg(loom)]
pub use loom::sync::atomic::{fence, AtomicU64, Ordering};

/// A 64-bit word that several processes read and one (or, where said, several) writes.
pub trait Word {
    fn load(&self, order: Ordering) -> u64;
    fn store(&self, value: u64, order: Ordering);
    fn swap(&self, value: u64, order: Ordering) -> u64;
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64;
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64;
}

impl Word for AtomicU64 {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline(always)]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order)
    }

    #[inline(always)]
    fn swap(&self, value: u64, order: Ordering) -> u64 {
        AtomicU64::swap(self, value, order)
    }

    #[inline(always)]
    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_or(self, bits, order)
    }

    #[inline(always)]
    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_and(self, bits, order)
    }
}

/// Words of a mapping are never loom's; under `cfg(loom)` the code around the models must still compile.
#[cfg(loom)]
impl Word for std::sync::atomic::AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        std::sync::atomic::AtomicU64::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        std::sync::atomic::AtomicU64::store(self, value, order)
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        std::sync::atomic::AtomicU64::swap(self, value, order)
    }

    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        std::sync::atomic::AtomicU64::fetch_or(self, bits, order)
    }

    fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
        std::sync::atomic::AtomicU64::fetch_and(self, bits, order)
    }
}
