//! The bucket protocol: a sequence lock over one bucket and all memory its words point at.
//!
//! One owner changes, any number of readers validate. It follows H.-J. Boehm, "Can seqlocks get along with
//! programming language memory models?" (MSPC 2012): data are relaxed atomic words between two fences.
//!
//! ```text
//! owner                                    reader
//! version = odd          (release)         v1 = version        (acquire)  -- pairs with [E]
//! fence(release)   [A]                     if v1 odd: retry
//! change words, free and reuse memory      read words, entries (relaxed)
//! version = even         (release) [E]     fence(acquire)      -- pairs with [A]
//!                                          v2 = version        (relaxed)
//!                                          valid if v1 == v2
//! ```
//! If a reader saw any word written after [A], its second load sees at least the odd version. An entry's memory is reused only
//! after its bucket went through [A], so a reader that copied from reused memory fails its validation.

use crate::sync::{fence, Ordering, Word};

/// Begin changing: from here on readers of this bucket retry.
#[inline]
pub fn begin_change(version: &impl Word) {
    let now = version.load(Ordering::Relaxed);
    // A bucket whose owner died in the middle is odd already and stays so: the parity matters, not the count.
    // Release: the journal word that names this bucket is in memory before, so that a repair finds every odd bucket.
    version.store(now | 1, Ordering::Release);
    fence(Ordering::Release); // [A]
}

/// End of the change: what was written is now what readers get.
#[inline]
pub fn end_change(version: &impl Word) {
    let now = version.load(Ordering::Relaxed);
    debug_assert!(now & 1 == 1);
    version.store(now + 1, Ordering::Release); // [E]
}

/// A reader's ticket, or None while the bucket is being changed.
#[inline]
pub fn begin_read(version: &impl Word) -> Option<u64> {
    let now = version.load(Ordering::Acquire); // pairs with [E]
    (now & 1 == 0).then_some(now)
}

/// True if everything read since `begin_read` belongs to one state of the bucket.
#[inline]
pub fn validate(version: &impl Word, ticket: u64) -> bool {
    fence(Ordering::Acquire); // pairs with [A]
    version.load(Ordering::Relaxed) == ticket
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::AtomicU64;
    use loom::sync::Arc;
    use loom::thread;

    struct Shared {
        version: AtomicU64,
        word: AtomicU64,
        heap: [[AtomicU64; 2]; 2],
    }

    /// A reader follows the bucket's word to an entry while the owner replaces it and reuses the old memory.
    #[test]
    fn a_reader_never_accepts_a_torn_or_reused_entry() {
        loom::model(|| {
            let entry = |a, b| [AtomicU64::new(a), AtomicU64::new(b)];
            let shared = Arc::new(Shared {
                version: AtomicU64::new(0),
                word: AtomicU64::new(0),
                heap: [entry(10, 10), entry(0, 0)],
            });
            let owner = shared.clone();
            let writer = thread::spawn(move || {
                // Replace: write the new entry, then swing the word.
                owner.heap[1][0].store(20, Ordering::Relaxed);
                owner.heap[1][1].store(20, Ordering::Relaxed);
                begin_change(&owner.version);
                owner.word.store(1, Ordering::Relaxed);
                end_change(&owner.version);
                // The old memory is free: another key's entry takes it.
                owner.heap[0][0].store(99, Ordering::Relaxed);
                owner.heap[0][1].store(99, Ordering::Relaxed);
            });
            if let Some(ticket) = begin_read(&shared.version) {
                let at = shared.word.load(Ordering::Relaxed) as usize;
                let a = shared.heap[at][0].load(Ordering::Relaxed);
                let b = shared.heap[at][1].load(Ordering::Relaxed);
                if validate(&shared.version, ticket) {
                    assert_eq!(a, b, "torn");
                    assert!(a == 10 && at == 0 || a == 20 && at == 1, "foreign: {a} at {at}");
                }
            }
            writer.join().unwrap();
        });
    }

    /// In-place changes (a deadline and its stamp) are seen together or not at all.
    #[test]
    fn a_change_in_place_is_seen_whole() {
        loom::model(|| {
            let shared = Arc::new((AtomicU64::new(0), AtomicU64::new(1), AtomicU64::new(1)));
            let owner = shared.clone();
            let writer = thread::spawn(move || {
                for value in 2..4 {
                    begin_change(&owner.0);
                    owner.1.store(value, Ordering::Relaxed);
                    owner.2.store(value, Ordering::Relaxed);
                    end_change(&owner.0);
                }
            });
            if let Some(ticket) = begin_read(&shared.0) {
                let a = shared.1.load(Ordering::Relaxed);
                let b = shared.2.load(Ordering::Relaxed);
                if validate(&shared.0, ticket) {
                    assert_eq!(a, b);
                }
            }
            writer.join().unwrap();
        });
    }
}
