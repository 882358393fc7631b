//! Free runs of heap pages: best fit, neighbours joined. Private to the owner and rebuilt after an unclean stop.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Runs {
    by_start: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    pages: u64,
}

impl Runs {
    /// Free pages in all.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Take `pages` pages from the smallest run that has them.
    pub fn take(&mut self, pages: u64) -> Option<u64> {
        let &(length, start) = self.by_length.range((pages, 0)..).next()?;
        self.remove(start, length);
        if length > pages {
            self.insert(start + pages, length - pages);
        }
        Some(start)
    }

    /// Give `pages` pages back.
    pub fn give(&mut self, mut start: u64, mut pages: u64) {
        if let Some((&before, &length)) = self.by_start.range(..start).next_back() {
            debug_assert!(before + length <= start, "page given back twice");
            if before + length == start {
                self.remove(before, length);
                start = before;
                pages += length;
            }
        }
        if let Some(&length) = self.by_start.get(&(start + pages)) {
            self.remove(start + pages, length);
            pages += length;
        }
        self.insert(start, pages);
    }

    fn insert(&mut self, start: u64, length: u64) {
        self.by_start.insert(start, length);
        self.by_length.insert((length, start));
        self.pages += length;
    }

    fn remove(&mut self, start: u64, length: u64) {
        self.by_start.remove(&start);
        self.by_length.remove(&(length, start));
        self.pages -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_and_the_best_fit_is_taken() {
        let mut runs = Runs::default();
        runs.give(0, 4);
        runs.give(10, 2);
        runs.give(4, 4);
        assert_eq!(runs.take(2), Some(10));
        assert_eq!(runs.take(8), Some(0));
        assert_eq!(runs.take(1), None);
        runs.give(3, 1);
        runs.give(5, 1);
        runs.give(4, 1);
        assert_eq!(runs.take(3), Some(3));
        assert_eq!(runs.pages(), 0);
    }
}
