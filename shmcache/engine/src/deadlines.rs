//! When to look where for expired entries: a lower bound of the earliest deadline per group of eight buckets.
//!
//! Four bytes per group (about 45 keys) instead of a queue with an entry per key, and nothing to clean up when a deadline is
//! moved or its key deleted: a bound that is too early costs one look. Private to the owner; after a restart all bounds are
//! "now", so the groups are looked at once, in slices.

const GROUP_SHIFT: u32 = 3;
/// Ticks of 1/8 s since the epoch below: a deadline's memory is back within a second.
const TICK_MS: u64 = 128;
const NEVER: u32 = u32::MAX;

pub struct Deadlines {
    epoch_ms: u64,
    bounds: Vec<u32>,
    /// Bound of the minimum over each 512 bounds, so that looking for due groups reads little.
    coarse: Vec<u32>,
    next_group: usize,
}

const COARSE_SHIFT: u32 = 9;

impl Deadlines {
    /// With `known` false every group is due at once.
    pub fn new(epoch_ms: u64, buckets: u64, known: bool) -> Deadlines {
        let mut deadlines = Deadlines {
            epoch_ms,
            bounds: Vec::new(),
            coarse: Vec::new(),
            next_group: 0,
        };
        deadlines.cover(buckets);
        if !known {
            deadlines.bounds.fill(0);
            deadlines.coarse.fill(0);
        }
        deadlines
    }

    fn cover(&mut self, buckets: u64) {
        let groups = (buckets as usize).div_ceil(1 << GROUP_SHIFT);
        if groups > self.bounds.len() {
            self.bounds.resize(groups, NEVER);
            self.coarse.resize(groups.div_ceil(1 << COARSE_SHIFT), NEVER);
        }
    }

    fn tick(&self, unix_ms: u64) -> u32 {
        (unix_ms.saturating_sub(self.epoch_ms) / TICK_MS).min(NEVER as u64 - 1) as u32
    }

    /// An entry in `bucket` has this deadline (unix ms).
    #[inline]
    pub fn note(&mut self, bucket: u64, deadline: u64) {
        // Rounded up: when the group is due, this deadline has certainly passed.
        self.note_tick(bucket, self.tick(deadline).saturating_add(1).min(NEVER - 1));
    }

    fn note_tick(&mut self, bucket: u64, tick: u32) {
        let group = (bucket >> GROUP_SHIFT) as usize;
        if group >= self.bounds.len() {
            self.cover(bucket + 1);
        }
        self.bounds[group] = self.bounds[group].min(tick);
        let coarse = &mut self.coarse[group >> COARSE_SHIFT];
        *coarse = (*coarse).min(tick);
    }

    /// Bucket `from` was split, some of its entries are in `to` now.
    pub fn inherit(&mut self, from: u64, to: u64) {
        let tick = self.bounds.get((from >> GROUP_SHIFT) as usize).copied().unwrap_or(NEVER);
        self.note_tick(to, tick);
    }

    /// The buckets of a group that may hold an entry whose deadline is `now` or earlier. Its bound is forgotten: the caller
    /// looks at all its entries and notes those that remain.
    pub fn take_due(&mut self, now_ms: u64) -> Option<std::ops::Range<u64>> {
        let now = self.tick(now_ms);
        let groups = self.bounds.len();
        for step in 0..self.coarse.len() + 1 {
            let coarse = ((self.next_group >> COARSE_SHIFT) + step) % self.coarse.len().max(1);
            if self.coarse.get(coarse).is_none_or(|&bound| bound > now) {
                continue;
            }
            let range = coarse << COARSE_SHIFT..((coarse + 1) << COARSE_SHIFT).min(groups);
            let mut least = NEVER;
            for group in range {
                if self.bounds[group] <= now {
                    self.bounds[group] = NEVER;
                    self.next_group = group;
                    let first = (group as u64) << GROUP_SHIFT;
                    return Some(first..first + (1 << GROUP_SHIFT));
                }
                least = least.min(self.bounds[group]);
            }
            self.coarse[coarse] = least;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_due_from_its_earliest_deadline_on() {
        let mut deadlines = Deadlines::new(1_000_000, 64, true);
        deadlines.note(17, 1_005_000);
        deadlines.note(16, 1_009_000);
        assert_eq!(deadlines.take_due(1_004_000), None);
        assert_eq!(deadlines.take_due(1_005_200), Some(16..24));
        assert_eq!(deadlines.take_due(1_005_200), None, "taken once");
        deadlines.note(16, 1_009_000);
        assert_eq!(deadlines.take_due(1_100_000), Some(16..24));
    }

    #[test]
    fn unknown_groups_are_looked_at_once() {
        let mut deadlines = Deadlines::new(0, 9000 * 8, false);
        let mut seen = 0;
        while deadlines.take_due(1).is_some() {
            seen += 1;
        }
        assert_eq!(seen, 9000);
    }

    #[test]
    fn the_new_half_of_a_split_inherits() {
        let mut deadlines = Deadlines::new(0, 8, true);
        deadlines.note(3, 500);
        deadlines.inherit(3, 900);
        assert_eq!(deadlines.take_due(1000), Some(0..8));
        assert_eq!(deadlines.take_due(1000), Some(896..904));
    }
}
