//! The ring protocol: one writer, any number of readers that may be overtaken, never blocked and never lied to.
//!
//! ```text
//! writer                                       reader of [p, h)
//! tail = end of what is overwritten (relaxed)   h = head (acquire)     -- pairs with [P]
//! fence(release)             [T]                copy [p, h) (relaxed)
//! write words [head, new head) (relaxed)        fence(acquire)         -- pairs with [T]
//! head = new head (release)  [P]                valid if tail (relaxed) <= p
//! ```
//! A reader that copied a word of a later round saw a store made after [T], so its load of tail sees the moved one.

use crate::sync::{fence, Ordering, Word};

/// Give up everything below `new_tail`, before overwriting it.
#[inline]
pub fn give_up(tail: &impl Word, new_tail: u64) {
    tail.store(new_tail, Ordering::Relaxed);
    fence(Ordering::Release); // [T]
}

/// Make everything below `new_head` readable.
#[inline]
pub fn publish(head: &impl Word, new_head: u64) {
    head.store(new_head, Ordering::Release); // [P]
}

/// End of what can be read.
#[inline]
pub fn readable_to(head: &impl Word) -> u64 {
    head.load(Ordering::Acquire) // pairs with [P]
}

/// True if what was copied from `position` on was not being overwritten meanwhile.
#[inline]
pub fn still_there(tail: &impl Word, position: u64) -> bool {
    fence(Ordering::Acquire); // pairs with [T]
    tail.load(Ordering::Relaxed) <= position
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync::AtomicU64;
    use loom::sync::Arc;
    use loom::thread;

    /// A ring of two words; word n holds n + 100. The writer writes three, overtaking a slow reader.
    #[test]
    fn a_tailer_reads_what_was_written_there_or_learns_that_it_is_gone() {
        loom::model(|| {
            let shared = Arc::new((AtomicU64::new(0), AtomicU64::new(0), [AtomicU64::new(0), AtomicU64::new(0)]));
            let ring = shared.clone();
            let writer = thread::spawn(move || {
                for n in 0..3u64 {
                    if n >= 2 {
                        give_up(&ring.1, n - 1);
                    }
                    ring.2[(n % 2) as usize].store(n + 100, Ordering::Relaxed);
                    publish(&ring.0, n + 1);
                }
            });
            for position in 0..2u64 {
                if readable_to(&shared.0) > position {
                    let word = shared.2[(position % 2) as usize].load(Ordering::Relaxed);
                    if still_there(&shared.1, position) {
                        assert_eq!(word, position + 100);
                    }
                }
            }
            writer.join().unwrap();
        });
    }
}
