//! The order of a large collection's parts: sorted blocks, as in Grant Jenks' `sortedcontainers` (2014): a list of short sorted lists. Finding is two
//! binary searches, a rank is a sum over the blocks' lengths, changing moves one block's few kilobytes.
//!
//! This is the owner's private knowledge, like free lists: what lies in shared memory are the parts alone, and the walk after an attach makes the
//! order anew.

use std::cmp::Ordering;

/// Items of a block; a full one is halved.
const BLOCK: usize = 512;
/// Neighbours that have fewer together become one.
const MERGE: usize = 192;

/// One part: what it is sorted by first, and where its entry lies. Among equals the names decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    pub sort: u64,
    pub at: u64,
}

/// A place in the order: valid until the next change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    block: usize,
    index: usize,
}

#[derive(Default)]
pub struct Order {
    blocks: Vec<Vec<Item>>,
    /// Lengths of the blocks, side by side so that adding them up is fast.
    lengths: Vec<u32>,
    /// By what the last item of each block is sorted, side by side so that a search does not touch the blocks.
    lasts: Vec<u64>,
    length: usize,
}

impl Order {
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The first item that is not `before`; all that are must precede all that are not.
    pub fn first_not(&self, before: impl Fn(&Item) -> bool) -> Position {
        let block = self
            .blocks
            .partition_point(|block| before(block.last().expect("no block is empty")));
        let index = self.blocks.get(block).map_or(0, |items| items.partition_point(&before));
        Position { block, index }
    }

    /// Where an item of this sort and name stands or would stand; true if it is there.
    pub fn find<'a>(&self, sort: u64, name: &[u8], name_at: impl Fn(u64) -> &'a [u8]) -> (Position, bool) {
        let compare = |item: &Item| item.sort.cmp(&sort).then_with(|| name_at(item.at).cmp(name));
        let before = |item: &Item| compare(item) == Ordering::Less;
        let mut block = self.lasts.partition_point(|&last| last < sort);
        let equal = self.lasts[block..].iter().take_while(|&&last| last == sort).take(2).count();
        if equal > 0 {
            // Names decide in which of the blocks that end with this sort. Nearly always there is one at most.
            let end = match equal {
                1 => block + 1,
                _ => block + self.lasts[block..].partition_point(|&last| last == sort),
            };
            block += self.blocks[block..end].partition_point(|items| before(items.last().expect("no block is empty")));
        }
        let index = self
            .blocks
            .get(block)
            .map_or(0, |items| near(items, guess(items, sort), before));
        let position = Position { block, index };
        let there = self.get(position).is_some_and(|item| compare(&item) == Ordering::Equal);
        (position, there)
    }

    #[inline]
    pub fn get(&self, position: Position) -> Option<Item> {
        self.blocks.get(position.block)?.get(position.index).copied()
    }

    pub fn set(&mut self, position: Position, item: Item) {
        self.blocks[position.block][position.index] = item;
        self.note(position.block);
    }

    pub fn insert(&mut self, position: Position, item: Item) {
        self.length += 1;
        let Position { mut block, mut index } = position;
        if block == self.blocks.len() {
            let Some(last) = block.checked_sub(1) else {
                self.add_block(0, vec![item]);
                return;
            };
            (block, index) = (last, self.blocks[last].len());
        }
        if self.blocks[block].len() == BLOCK {
            // Before it would grow: its memory never exceeds what a full one takes.
            let at_end = index == BLOCK && block + 1 == self.blocks.len();
            if at_end || (index == 0 && block == 0) {
                // At the ends, where queues grow, a full block stays full.
                let place = block + at_end as usize;
                self.add_block(place, vec![item]);
                return;
            }
            let rest = self.blocks[block].split_off(BLOCK / 2);
            self.note(block);
            self.add_block(block + 1, rest);
            if index > BLOCK / 2 {
                (block, index) = (block + 1, index - BLOCK / 2);
            }
        }
        self.blocks[block].insert(index, item);
        self.note(block);
    }

    fn add_block(&mut self, place: usize, items: Vec<Item>) {
        self.blocks.insert(place, items);
        self.lengths.insert(place, 0);
        self.lasts.insert(place, 0);
        self.note(place);
    }

    fn remove_block(&mut self, place: usize) -> Vec<Item> {
        self.lengths.remove(place);
        self.lasts.remove(place);
        self.blocks.remove(place)
    }

    /// Keep what is known of a block, which is not empty, beside it.
    fn note(&mut self, block: usize) {
        let items = &self.blocks[block];
        self.lengths[block] = items.len() as u32;
        self.lasts[block] = items.last().expect("no block is empty").sort;
    }

    pub fn remove(&mut self, position: Position) -> Item {
        let Position { block, index } = position;
        let item = self.blocks[block].remove(index);
        let length = self.blocks[block].len();
        self.length -= 1;
        if length == 0 {
            self.remove_block(block);
            return item;
        }
        if length < MERGE / 2 && block + 1 < self.blocks.len() && length + self.blocks[block + 1].len() < MERGE {
            let next = self.remove_block(block + 1);
            self.blocks[block].extend(next);
        }
        self.note(block);
        item
    }

    /// How many items stand before.
    pub fn rank(&self, position: Position) -> usize {
        self.lengths[..position.block]
            .iter()
            .map(|&length| length as usize)
            .sum::<usize>()
            + position.index
    }

    /// The place of this rank; the end for any that is too large.
    pub fn at_rank(&self, rank: usize) -> Position {
        if rank >= self.length {
            return self.end();
        }
        // From the nearer end: queues are read there.
        if rank >= self.length / 2 {
            let mut behind = self.length - rank;
            for (block, &length) in self.lengths.iter().enumerate().rev() {
                if behind <= length as usize {
                    return Position {
                        block,
                        index: length as usize - behind,
                    };
                }
                behind -= length as usize;
            }
        }
        let mut rest = rank;
        for (block, &length) in self.lengths.iter().enumerate() {
            if rest < length as usize {
                return Position { block, index: rest };
            }
            rest -= length as usize;
        }
        self.end()
    }

    fn end(&self) -> Position {
        Position {
            block: self.blocks.len(),
            index: 0,
        }
    }

    pub fn first(&self) -> Option<Item> {
        self.blocks.first().and_then(|block| block.first()).copied()
    }

    pub fn last(&self) -> Option<Item> {
        self.blocks.last().and_then(|block| block.last()).copied()
    }

    /// Items from a place on, forward.
    pub fn forward(&self, from: Position) -> impl Iterator<Item = Item> + '_ {
        let rest = self
            .blocks
            .get(from.block)
            .map_or(&[][..], |items| &items[from.index.min(items.len())..]);
        let after = self.blocks.get(from.block + 1..).unwrap_or(&[]);
        rest.iter().chain(after.iter().flatten()).copied()
    }

    /// Items before a place, backward.
    pub fn backward(&self, from: Position) -> impl Iterator<Item = Item> + '_ {
        let rest = self
            .blocks
            .get(from.block)
            .map_or(&[][..], |items| &items[..from.index.min(items.len())]);
        let before = &self.blocks[..from.block.min(self.blocks.len())];
        rest.iter()
            .rev()
            .chain(before.iter().rev().flat_map(|block| block.iter().rev()))
            .copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = Item> + '_ {
        self.blocks.iter().flatten().copied()
    }

    /// Items of these ranks.
    pub fn range(&self, ranks: std::ops::Range<usize>) -> impl Iterator<Item = Item> + '_ {
        self.forward(self.at_rank(ranks.start)).take(ranks.len())
    }

    /// An item, each as likely as any other; `below` gives a random number below its argument. A random place of a random block is tried until there is an
    /// item at it: on the average a few times, whatever the size.
    pub fn random(&self, mut below: impl FnMut(usize) -> usize) -> Option<Item> {
        const FEW: usize = 64;
        if self.blocks.len() <= FEW {
            return (self.length > 0)
                .then(|| self.get(self.at_rank(below(self.length))))
                .flatten();
        }
        loop {
            let (block, index) = (below(self.blocks.len()), below(BLOCK));
            if let Some(&item) = self.blocks[block].get(index) {
                return Some(item);
            }
        }
    }

    /// Take the last item away.
    pub fn pop(&mut self) -> Option<Item> {
        let block = self.blocks.len().checked_sub(1)?;
        let index = self.blocks[block].len() - 1;
        Some(self.remove(Position { block, index }))
    }
}

/// Where an item of this sort would be if they were spread evenly between the first and the last: hashes of names are, positions in lists mostly.
fn guess(items: &[Item], sort: u64) -> usize {
    let (first, last) = (items[0].sort, items[items.len() - 1].sort);
    if sort <= first || first >= last {
        return 0;
    }
    let share = (sort.min(last) - first) as f64 / (last - first) as f64;
    (share * (items.len() - 1) as f64) as usize
}

/// The first item that is not `before`, searched from a guess on in steps that double: as fast as the guess is good, never much slower than halving.
fn near(items: &[Item], guess: usize, before: impl Fn(&Item) -> bool) -> usize {
    let (mut low, mut high, mut step) = (guess, guess, 1);
    if items.get(guess).is_some_and(&before) {
        // All up to `low` are before.
        loop {
            high = low + step;
            if high >= items.len() || !before(&items[high]) {
                break;
            }
            (low, step) = (high, step * 2);
        }
        high = high.min(items.len());
        low += 1;
    } else {
        // None from `high` on is.
        while high > 0 {
            low = high.saturating_sub(step);
            if before(&items[low]) {
                low += 1;
                break;
            }
            (high, step) = (low, step * 2);
        }
    }
    low + items[low..high].partition_point(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::testing::Random;

    /// The names are the places themselves.
    fn name(at: u64) -> &'static [u8] {
        Box::leak(at.to_be_bytes().to_vec().into_boxed_slice())
    }

    #[test]
    fn a_guess_changes_nothing() {
        let mut random = Random(5);
        for _ in 0..2_000 {
            let bits = random.below(60);
            let spread = 1 + random.below(1 << bits);
            let mut sorts: Vec<u64> = (0..1 + random.below(40)).map(|_| random.below(spread)).collect();
            sorts.sort_unstable();
            let items: Vec<Item> = sorts.iter().map(|&sort| Item { sort, at: 0 }).collect();
            for sort in sorts.iter().flat_map(|&sort| [sort.saturating_sub(1), sort, sort + 1]) {
                let before = |item: &Item| item.sort < sort;
                let expected = items.partition_point(before);
                assert_eq!(near(&items, guess(&items, sort), before), expected);
                assert_eq!(near(&items, random.below(items.len() as u64) as usize, before), expected);
            }
        }
    }

    #[test]
    fn it_is_a_sorted_list_whatever_happens() {
        let mut random = Random(11);
        let mut order = Order::default();
        let mut model: Vec<(u64, u64)> = Vec::new();
        for step in 0..30_000 {
            let growing = (step / 5_000) % 2 == 0;
            let item = (random.below(50), random.below(3_000));
            let (position, there) = order.find(item.0, name(item.1), name);
            let place = model.binary_search(&item);
            assert_eq!(there, place.is_ok());
            match place {
                Ok(index) if !growing || random.below(3) == 0 => {
                    assert_eq!(order.rank(position), index);
                    order.remove(position);
                    model.remove(index);
                }
                Err(index) if growing || random.below(3) == 0 => {
                    assert_eq!(order.rank(position), index);
                    order.insert(
                        position,
                        Item {
                            sort: item.0,
                            at: item.1,
                        },
                    );
                    model.insert(index, item);
                }
                _ => {}
            }
            assert_eq!(order.len(), model.len());
            let lasts = order.blocks.iter().map(|block| block.last().unwrap().sort);
            assert!(lasts.eq(order.lasts.iter().copied()) && order.lengths.len() == order.lasts.len());
            if step % 500 == 0 {
                let all: Vec<(u64, u64)> = order.iter().map(|item| (item.sort, item.at)).collect();
                assert_eq!(all, model);
                let rank = random.below(model.len() as u64 + 2) as usize;
                let position = order.at_rank(rank);
                let ahead: Vec<u64> = order.forward(position).take(600).map(|item| item.at).collect();
                let behind: Vec<u64> = order.backward(position).map(|item| item.at).collect();
                assert_eq!(
                    ahead,
                    model.iter().skip(rank).take(600).map(|item| item.1).collect::<Vec<_>>()
                );
                assert_eq!(behind, model.iter().take(rank).rev().map(|item| item.1).collect::<Vec<_>>());
            }
        }
        while let Some(item) = order.pop() {
            assert_eq!(model.pop(), Some((item.sort, item.at)));
        }
        assert!(model.is_empty() && order.is_empty());
    }
}
