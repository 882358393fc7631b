//! A tailer that sleeps, and the owner that wakes it: no wake-up may be lost, and an owner for whom nobody waits pays one fence and one load.
//!
//! How the tailer sleeps (a socket, a descriptor) is not the engine's affair; here is only the agreement that it may. Each tailer has a
//! bit in one word. The two sides store and then look, in opposite order (Dekker 1965), each with a full fence between:
//!
//! ```text
//! tailer                                    owner
//! waiting |= my bit                         head = new head             (`ring::publish`)
//! fence(seqcst)            [W]              fence(seqcst)          [H]
//! head == my position?  -> sleep            waiting != 0?  -> take all bits, wake their tailers
//! ```
//! One of the fences comes first in their total order. If it is [W], the owner's load sees the bit; if it is [H], the tailer's load sees
//! the new head. Without one of them both may miss: the models below find that.

use crate::layout::log;
use crate::memory::SharedMap;
use crate::sync::{fence, Ordering, Word};

/// Announce that a tailer is about to sleep. True: nothing lies behind `position`, it may. False: there is something, and the bit is gone.
#[inline]
pub fn prepare(waiting: &impl Word, head: &impl Word, bit: u64, position: u64) -> bool {
    waiting.fetch_or(bit, Ordering::Relaxed);
    fence(Ordering::SeqCst); // [W]
    let nothing = head.load(Ordering::Acquire) == position;
    if !nothing {
        cancel(waiting, bit);
    }
    nothing
}

/// The tailer is awake. The owner may have taken the bit already: then a wake-up is under way that finds nobody asleep.
#[inline]
pub fn cancel(waiting: &impl Word, bit: u64) {
    waiting.fetch_and(!bit, Ordering::Relaxed);
}

/// Bits of the tailers to wake, after the owner published. Each is told once.
#[inline]
pub fn take(waiting: &impl Word) -> u64 {
    fence(Ordering::SeqCst); // [H]
    if waiting.load(Ordering::Relaxed) == 0 {
        return 0;
    }
    waiting.swap(0, Ordering::Relaxed)
}

/// Names of the tailers to wake.
pub fn take_names(map: &SharedMap) -> Vec<String> {
    let bits = take(map.word(log::WAITING));
    if bits == 0 {
        return Vec::new();
    }
    (0..log::TAILERS)
        .filter(|index| bits >> index & 1 == 1)
        .map(|index| super::tailer::name_at(map, log::TAILERS_AT + index * log::TAILER_BYTES))
        .collect()
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::log::ring;
    use crate::sync::AtomicU64;
    use loom::sync::Arc;
    use loom::thread;

    /// An owner publishes once and wakes; a tailer looks once and sleeps. Fails if it sleeps for ever.
    fn nobody_oversleeps(prepare: fn(&AtomicU64, &AtomicU64) -> bool, take: fn(&AtomicU64) -> u64) {
        loom::model(move || {
            let shared = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
            let owner = shared.clone();
            let writer = thread::spawn(move || {
                ring::publish(&owner.1, 8);
                take(&owner.0)
            });
            let sleeps = prepare(&shared.0, &shared.1);
            let woken = writer.join().unwrap();
            assert!(!sleeps || woken == 1, "asleep, and nobody wakes it");
        });
    }

    fn prepare_unfenced(waiting: &AtomicU64, head: &AtomicU64) -> bool {
        waiting.fetch_or(1, Ordering::Relaxed);
        head.load(Ordering::Acquire) == 0
    }

    fn take_unfenced(waiting: &AtomicU64) -> u64 {
        if waiting.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        waiting.swap(0, Ordering::Relaxed)
    }

    #[test]
    fn a_sleeping_tailer_is_always_woken() {
        nobody_oversleeps(|waiting, head| prepare(waiting, head, 1, 0), |waiting| take(waiting));
    }

    #[test]
    #[should_panic(expected = "nobody wakes it")]
    fn without_the_tailers_fence_a_wake_up_is_lost() {
        nobody_oversleeps(prepare_unfenced, |waiting| take(waiting));
    }

    #[test]
    #[should_panic(expected = "nobody wakes it")]
    fn without_the_owners_fence_a_wake_up_is_lost() {
        nobody_oversleeps(|waiting, head| prepare(waiting, head, 1, 0), take_unfenced);
    }

    /// Two tailers, one of which is told by an earlier round: neither takes the other's wake-up away.
    #[test]
    fn two_tailers_are_both_woken() {
        loom::model(|| {
            let shared = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
            let (owner, other) = (shared.clone(), shared.clone());
            let writer = thread::spawn(move || {
                ring::publish(&owner.1, 8);
                take(&owner.0)
            });
            let second = thread::spawn(move || prepare(&other.0, &other.1, 2, 0));
            let first_sleeps = prepare(&shared.0, &shared.1, 1, 0);
            let second_sleeps = second.join().unwrap();
            let woken = writer.join().unwrap();
            assert!(!first_sleeps || woken & 1 != 0, "the first sleeps on");
            assert!(!second_sleeps || woken & 2 != 0, "the second sleeps on");
        });
    }
}
