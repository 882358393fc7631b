//! Named places in the engine's mutations where a test may end the owner, as `kill -9` would.
//!
//! Always compiled in (a relaxed load and a never-taken branch), so that what is tested is what is installed.

use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! fail_points {
    ($($name:ident),* $(,)?) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum FailPoint { $($name),* }

        /// All points, in the order of their numbers.
        pub const FAIL_POINTS: &[(&str, FailPoint)] = &[$((stringify!($name), FailPoint::$name)),*];
    };
}

fail_points! {
    SlabMarked, HeapGrown, IndexGrown,
    EntryWritten, LogTailMoved, LogWritten, LogPublished,
    BucketOdd, WordSwung, BucketEven, EntryFreed,
    DeadlineStored, NodeStored, StampStored, Applied,
    OverflowFilled, OverflowLinked, ChainTrimmed,
    SplitFilled, SplitPublished, SplitMoved,
    FlushEpoch, FlushBuckets,
    GroupLogged, GroupHalfApplied, EntryMoved,
    PreparedWritten, GroupPrepared, DecisionNoted, PreparedPublished,
    TombstoneWritten, TombstoneLinked,
}

const NONE: u32 = u32::MAX;
static ARMED: AtomicU32 = AtomicU32::new(NONE);
static PASSAGES: AtomicU32 = AtomicU32::new(0);
/// In the engine's own tests a crash is a panic that the test catches, dropping the owner's private state.
#[cfg(test)]
pub const SIMULATED_CRASH: &str = "simulated crash";

/// End the process at the `after`+1-th passage of the point.
pub fn arm(point: Option<FailPoint>, after: u32) {
    PASSAGES.store(after, Ordering::Relaxed);
    ARMED.store(point.map_or(NONE, |point| point as u32), Ordering::Relaxed);
}

#[inline(always)]
pub fn pass(point: FailPoint) {
    if ARMED.load(Ordering::Relaxed) == point as u32 {
        fire();
    }
}

#[cold]
fn fire() {
    if PASSAGES.load(Ordering::Relaxed) > 0 {
        PASSAGES.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    ARMED.store(NONE, Ordering::Relaxed);
    #[cfg(test)]
    std::panic::panic_any(SIMULATED_CRASH);
    #[cfg(not(test))]
    die();
}

#[cfg(not(test))]
#[allow(unsafe_code)]
fn die() {
    // SAFETY: plain system calls; SIGKILL to ourselves does not return.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    std::process::abort();
}
