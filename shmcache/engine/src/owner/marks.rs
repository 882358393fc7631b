//! Flush marks: where there are several writers, a flush leaves no tombstone per key but one mark per range of slots, in the header page. A record that
//! is older than the mark of its slot comes too late.
//!
//! ```text
//!  word 0   stamp of the flush; 0 = the place is free
//!  word 1   0 (16) | node (16) | last slot (16) | first slot (16)
//! ```
//! The table is bounded: when it is full the oldest mark is dropped, and what that one would have refused comes in again.

use super::flush::in_scope;
use crate::layout::*;
use crate::memory::OwnerMap;
use crate::slots::slot_of;

/// First and last slot.
pub type Range = (u16, u16);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    slots: Range,
    origin: Origin,
}

impl Mark {
    fn covers(&self, slots: Range, origin: Origin) -> bool {
        self.slots.0 <= slots.0 && slots.1 <= self.slots.1 && self.origin >= origin
    }
}

pub struct FlushMarks {
    places: [Option<Mark>; header::FLUSH_MARK_COUNT],
    /// Of all marks: most records are newer and need no closer look.
    newest: Origin,
    pub dropped: u64,
}

const NEVER: Origin = Origin { stamp: 0, node: 0 };

impl FlushMarks {
    pub fn load(map: &OwnerMap) -> FlushMarks {
        let mut marks = FlushMarks {
            places: [None; header::FLUSH_MARK_COUNT],
            newest: NEVER,
            dropped: 0,
        };
        for (place, mark) in marks.places.iter_mut().enumerate() {
            let at = place_at(place);
            let (stamp, word) = (map.load(at), map.load(at + WORD));
            if stamp != 0 {
                let origin = Origin {
                    stamp,
                    node: (word >> 32) as u16,
                };
                let slots = (word as u16, (word >> 16) as u16);
                *mark = Some(Mark { slots, origin });
                marks.newest = marks.newest.max(origin);
            }
        }
        marks
    }

    pub fn count(&self) -> u64 {
        self.places.iter().flatten().count() as u64
    }

    /// True if the key was flushed later than this.
    #[inline]
    pub fn refuse(&self, key: &[u8], origin: Origin) -> bool {
        origin < self.newest && {
            let slot = slot_of(key);
            self.places.iter().flatten().any(|mark| mark.covers((slot, slot), origin))
        }
    }

    /// True if all of this flush is known.
    pub fn know(&self, origin: Origin, ranges: &[Range]) -> bool {
        let covered = |&range: &Range| self.places.iter().flatten().any(|mark| mark.covers(range, origin));
        ranges.iter().all(covered)
    }

    /// True if the table has no room for more of a flush that old: all its marks are newer, or are part of it.
    pub fn are_full_for(&self, origin: Origin) -> bool {
        self.places.iter().all(|mark| mark.is_some_and(|mark| mark.origin >= origin))
    }

    /// Remember a flush. The same once more changes nothing.
    pub fn add(&mut self, map: &mut OwnerMap, origin: Origin, ranges: &[Range]) {
        for &slots in ranges {
            if self.know(origin, &[slots]) {
                continue;
            }
            let mark = Mark { slots, origin };
            let mut superseded =
                (0..self.places.len()).filter(|&place| self.places[place].is_some_and(|old| mark.covers(old.slots, old.origin)));
            let first = superseded.next();
            let others: Vec<usize> = superseded.collect();
            match first.or_else(|| self.places.iter().position(Option::is_none)) {
                Some(place) => self.store(map, place, Some(mark)),
                None => self.replace_oldest(map, mark),
            }
            for place in others {
                self.store(map, place, None);
            }
        }
    }

    fn replace_oldest(&mut self, map: &mut OwnerMap, mark: Mark) {
        self.dropped += 1;
        let oldest = (0..self.places.len()).min_by_key(|&place| self.places[place].map(|mark| mark.origin));
        if let Some(place) = oldest.filter(|&place| self.places[place].is_some_and(|old| old.origin < mark.origin)) {
            self.store(map, place, Some(mark));
        }
    }

    /// A kill between the stores leaves the place free; its flush is still to be applied then, and redone.
    fn store(&mut self, map: &mut OwnerMap, place: usize, mark: Option<Mark>) {
        let at = place_at(place);
        map.publish(at, 0);
        if let Some(Mark { slots, origin }) = mark {
            map.publish(
                at + WORD,
                slots.0 as u64 | (slots.1 as u64) << 16 | (origin.node as u64) << 32,
            );
            map.publish(at, origin.stamp);
            self.newest = self.newest.max(origin);
        }
        self.places[place] = mark;
    }
}

/// The flushes that are remembered, oldest first, read beside the owner. A mark that is being changed is left out: the flush that replaces it
/// is behind the log position up to which the reader knows that all is applied, and covers it. So is one that no owner has written.
///
/// The owner clears a place's stamp before it changes the rest and writes it last, so a stamp that is the same before and after belongs to
/// what was read in between.
pub fn flushes(load: impl Fn(u64) -> u64) -> Vec<(Origin, Vec<Range>)> {
    let mut found: Vec<(Origin, Range)> = Vec::new();
    for place in 0..header::FLUSH_MARK_COUNT {
        let at = place_at(place);
        let (stamp, word, again) = (load(at), load(at + WORD), load(at));
        let (slots, node) = ((word as u16, (word >> 16) as u16), (word >> 32) as u16);
        if stamp != 0 && stamp == again && slots.0 <= slots.1 && (slots.1 as usize) < SLOT_COUNT && node <= MAX_NODE {
            found.push((Origin { stamp, node }, slots));
        }
    }
    found.sort_unstable();
    let mut flushes: Vec<(Origin, Vec<Range>)> = Vec::new();
    for (origin, slots) in found {
        match flushes.last_mut() {
            Some((same, ranges)) if *same == origin => ranges.push(slots),
            _ => flushes.push((origin, vec![slots])),
        }
    }
    flushes
}

/// The scope of a flush that concerns these slots.
pub fn scope(ranges: &[Range]) -> Vec<u8> {
    if ranges.contains(&(0, SLOT_COUNT as u16 - 1)) {
        return Vec::new();
    }
    let mut bitmap = vec![0; SLOT_COUNT / 8];
    for slot in ranges.iter().flat_map(|range| range.0..=range.1) {
        bitmap[slot as usize / 8] |= 1 << (slot % 8);
    }
    bitmap
}

fn place_at(place: usize) -> u64 {
    header::FLUSH_MARKS + place as u64 * header::FLUSH_MARK_BYTES
}

/// The scope of a flush as ranges of slots.
pub fn ranges(scope: &[u8]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    if scope.is_empty() {
        return vec![(0, SLOT_COUNT as u16 - 1)];
    }
    for slot in (0..SLOT_COUNT as u16).filter(|&slot| in_scope(scope, slot)) {
        match ranges.last_mut() {
            Some(range) if range.1 + 1 == slot => range.1 = slot,
            _ => ranges.push((slot, slot)),
        }
    }
    ranges
}
