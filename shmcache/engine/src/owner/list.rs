//! Positions of a large list's elements.
//!
//! Elements are numbered far apart, so that one can be put between two others. When two neighbours have no number left between them, the elements
//! of the smallest window around them that is sparse enough get new numbers, evenly spaced: order maintenance by relabelling (P. F. Dietz and
//! D. D. Sleator, "Two algorithms for maintaining order in a list", STOC 1987), with windows that are aligned ranges of numbers and grow by doubling
//! (M. A. Bender and others, "Two simplified algorithms for maintaining order in a list", ESA 2002). The work is O(log n) moves per insertion,
//! amortised.

use super::large::{Large, LIST_MIDDLE, LIST_STEP};
use super::{Owner, Refused};
use crate::layout::Kind;

/// A window of 2^i numbers may hold up to (2/T)^i elements: here T is 3/2.
const GROWTH: f64 = 4.0 / 3.0;
/// The smallest window, as a power of two: what it may hold has more than four numbers to each.
const FIRST_WINDOW: u32 = 4;
/// Elements that move in one group.
const MOVES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Left,
    Right,
}

pub fn name_of(position: u64) -> [u8; 8] {
    position.to_be_bytes()
}

impl Owner {
    /// The position before the first element or after the last one; None if there is no number left there.
    pub fn position_at(&mut self, large: &Large, end: End) -> Option<u64> {
        let order = self.order(large);
        match end {
            End::Left => order
                .first()
                .map_or(Some(LIST_MIDDLE), |item| item.sort.checked_sub(LIST_STEP)),
            End::Right => order
                .last()
                .map_or(Some(LIST_MIDDLE), |item| item.sort.checked_add(LIST_STEP)),
        }
    }

    /// True if `count` elements fit at this end.
    fn has_room(&mut self, large: &Large, end: End, count: usize) -> bool {
        let order = self.order(large);
        let room = match end {
            End::Left => order.first().map_or(LIST_MIDDLE, |item| item.sort),
            End::Right => u64::MAX - order.last().map_or(LIST_MIDDLE, |item| item.sort),
        };
        room / LIST_STEP > count as u64
    }

    /// Have numbers for `count` elements at this end: after 2^43 steps in one direction the list is written anew, from the middle on.
    pub fn make_room(&mut self, key: &[u8], large: Large, end: End, count: usize) -> Result<Large, Refused> {
        if self.has_room(&large, end, count) {
            return Ok(large);
        }
        let Some(entry) = self.lookup(key) else { return Ok(large) };
        let elements = self.elements(key, Kind::List, entry);
        self.store_large(key, Kind::List, &elements, large.deadline)
    }

    /// A position for a new element before the one of this rank (their number: behind the last). Other elements may move to make room for it.
    pub fn position_before(&mut self, large: &Large, rank: usize) -> Result<u64, Refused> {
        loop {
            let length = self.order(large).len();
            if rank == 0 || rank >= length {
                let end = if rank == 0 { End::Left } else { End::Right };
                if let Some(position) = self.position_at(large, end) {
                    return Ok(position);
                }
            }
            let order = self.order(large);
            let sort = |rank: usize| order.get(order.at_rank(rank)).map(|item| item.sort);
            let before = if rank == 0 { 0 } else { sort(rank - 1).unwrap_or(0) };
            let after = sort(rank).unwrap_or(u64::MAX);
            if after - before >= 2 {
                return Ok(before + (after - before) / 2);
            }
            self.renumber(large, if rank == 0 { after } else { before })?;
        }
    }

    /// Spread the elements around this position.
    fn renumber(&mut self, large: &Large, position: u64) -> Result<(), Refused> {
        let order = self.order(large);
        let mut moves: Vec<(u64, u64)> = Vec::new();
        for bits in FIRST_WINDOW..=64 {
            let size = 1u128 << bits;
            let low = position as u128 / size * size;
            let from = order.first_not(|item| (item.sort as u128) < low);
            let to = order.first_not(|item| (item.sort as u128) < low + size);
            let count = order.rank(to) - order.rank(from);
            if count as f64 > GROWTH.powi(bits as i32) && bits < 64 {
                continue;
            }
            let gap = size / count.max(1) as u128;
            moves = order
                .forward(from)
                .take(count)
                .enumerate()
                .map(|(index, item)| (item.sort, (low + index as u128 * gap + gap / 2) as u64))
                .filter(|(old, new)| old != new)
                .collect();
            break;
        }
        // One by one, none over another: those that go up from the last on, those that go down from the first on. So the list is in order at any
        // time, whatever a kill leaves undone.
        let up = moves.iter().rev().filter(|(old, new)| new > old);
        let down = moves.iter().filter(|(old, new)| new < old);
        let moves: Vec<(u64, u64)> = up.chain(down).copied().collect();
        for some in moves.chunks(MOVES) {
            match self.grouped(|owner| owner.move_elements(large, some)) {
                Err(Refused::GroupTooLarge) => {
                    for one in some.chunks(1) {
                        self.grouped(|owner| owner.move_elements(large, one))?;
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn move_elements(&mut self, large: &Large, moves: &[(u64, u64)]) -> Result<(), Refused> {
        for &(old, new) in moves {
            let Some(entry) = self.part(large, &name_of(old)) else {
                continue;
            };
            let value = self.value(&entry).to_vec();
            self.put_part(large, &name_of(new), &value, 0)?;
            self.remove_part(large, &name_of(old));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::crash_tests::take_turn;
    use super::super::testing::{run, Random, Regions};
    use super::super::Policy;
    use super::*;
    use crate::owner::large::Opened;

    fn elements(owner: &mut Owner, key: &[u8]) -> Vec<Vec<u8>> {
        let entry = owner.lookup(key).unwrap();
        owner
            .elements(key, Kind::List, entry)
            .into_iter()
            .map(|element| element.value)
            .collect()
    }

    fn large(owner: &mut Owner, key: &[u8]) -> Large {
        match owner.open(key, Kind::List) {
            Ok(Opened::Large(large)) => large,
            _ => panic!("a large list"),
        }
    }

    #[test]
    fn thousands_of_insertions_at_one_place() {
        let _turn = take_turn();
        let regions = Regions::new();
        let mut owner = regions.create(64 << 20, 8 << 20, Policy::NoEviction);
        let mut model: Vec<Vec<u8>> = (0..300).map(|number| format!("e{number}").into_bytes()).collect();
        for element in &model {
            run(&mut owner, &[b"RPUSH", b"l", element]);
        }
        for number in 0..4000 {
            let element = format!("new{number}").into_bytes();
            run(&mut owner, &[b"LINSERT", b"l", b"AFTER", b"e150", &element]);
            model.insert(151, element);
        }
        assert_eq!(elements(&mut owner, b"l"), model);
        let records = owner.log.seq;
        // Two records for each insertion; what more there is are moves, two records each.
        assert!(records < 300 * 2 + 4000 * 2 + 4000 * 2 * 20, "{records}");
        owner.verify().unwrap();
    }

    #[test]
    fn insertions_anywhere_are_in_order() {
        let _turn = take_turn();
        let regions = Regions::new();
        let mut owner = regions.create(64 << 20, 8 << 20, Policy::NoEviction);
        let mut random = Random(3);
        let mut model: Vec<Vec<u8>> = (0..200).map(|number| format!("{number}").into_bytes()).collect();
        for element in &model {
            run(&mut owner, &[b"RPUSH", b"l", element]);
        }
        for number in 200..3000 {
            let element = format!("{number}").into_bytes();
            let list = large(&mut owner, b"l");
            // Mostly near one place, so that numbers run out.
            let rank = if random.below(4) == 0 {
                random.below(model.len() as u64 + 1)
            } else {
                100 + random.below(3)
            } as usize;
            let position = owner.position_before(&list, rank).unwrap();
            owner.put_part(&list, &name_of(position), &element, 0).unwrap();
            owner.put_root(b"l", &list).unwrap();
            model.insert(rank, element);
            owner.unpin();
        }
        assert_eq!(elements(&mut owner, b"l"), model);
        owner.verify().unwrap();
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_end_of_the_list() {
        let _turn = take_turn();
        let regions = Regions::new();
        let mut owner = regions.create(64 << 20, 8 << 20, Policy::NoEviction);
        for end in [End::Left, End::Right] {
            run(&mut owner, &[b"DEL", b"l"]);
            for number in 0..200 {
                run(&mut owner, &[b"RPUSH", b"l", format!("{number}").as_bytes()]);
            }
            let list = large(&mut owner, b"l");
            let at = if end == End::Left {
                LIST_STEP / 2
            } else {
                u64::MAX - LIST_STEP / 2
            };
            owner.put_part(&list, &name_of(at), b"edge", 0).unwrap();
            owner.put_root(b"l", &list).unwrap();
            let name: &[u8] = if end == End::Left { b"LPUSH" } else { b"RPUSH" };
            run(&mut owner, &[name, b"l", b"x", b"y"]);
            let mut found = elements(&mut owner, b"l");
            if end == End::Left {
                found.reverse();
            }
            assert_eq!(found.len(), 203);
            assert_eq!(found[200..], [b"edge".to_vec(), b"x".to_vec(), b"y".to_vec()]);
            owner.verify().unwrap();
        }
    }
}
