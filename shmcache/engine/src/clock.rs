//! Time and stamps.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
#[inline]
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014) packed in a word:
/// ```text
///  63                                     16 15              0
/// +-----------------------------------------+-----------------+
/// | unix ms (48)                            | counter (16)    |
/// +-----------------------------------------+-----------------+
/// ```
/// Each stamp is larger than all before it, also when the wall clock steps back or more than 65536 writes fall into a millisecond
/// (the counter then carries into the next one).
#[inline]
pub fn next_stamp(last: u64, now_ms: u64) -> u64 {
    (last + 1).max(now_ms << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_whatever_the_wall_clock_does() {
        let mut last = 0;
        for now in [5, 5, 7, 3, 3, 8] {
            let stamp = next_stamp(last, now);
            assert!(stamp > last);
            last = stamp;
        }
        assert_eq!(last >> 16, 8);
    }
}
