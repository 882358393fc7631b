//! What the owner knows of the large collections: which parts each has, in order, and which roots name it.
//!
//! None of it lies in shared memory. Every change of the index goes through `link`, `unlink` and `compact`, and these tell it here, whether a command
//! made the change, a replay, or recovery; the walk after an attach tells the rest. All of it may be told twice.
//!
//! A collection whose last root is gone is dying: its parts are freed in slices, without records, for every host that sees the root go does the same.
//! Parts without a root that nobody saw go may belong to one that is yet to come (a copy walks the index in no order), and are left alone for an hour.

use super::order::{Item, Order};
use super::Owner;
use crate::layout::*;
use crate::memory::OwnerMap;
use crate::parts::{id_in, is_part_key, name_in};
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::xxh3_64;

/// First byte of a collection's value: everything is in this entry, or in parts.
pub const FORM_COMPACT: u8 = 1;
pub const FORM_LARGE: u8 = 2;
/// Value of a root: form, and the id in the second word.
pub const ROOT_BYTES: usize = 16;

/// How long parts may be without a root before they are garbage.
const ROOTLESS_MS: u64 = 3_600_000;
/// Parts freed between two looks at the clock, or when memory is wanted.
const FREE_SLICE: usize = 64;

#[derive(Default)]
pub struct Collection {
    pub order: Order,
    /// Offsets of the roots: one, or two while a key gets another name.
    roots: SmallVec<[u64; 2]>,
    /// When a part came last, unix ms.
    fed_ms: u64,
}

/// Ids are hashes already.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("ids are numbers")
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Default)]
pub struct Collections {
    by_id: HashMap<u64, Collection, BuildHasherDefault<IdHasher>>,
    dying: VecDeque<u64>,
    /// When rootless collections were looked for last, unix ms.
    searched_ms: u64,
}

/// The value of a large collection's root.
pub fn root_value(id: u64) -> [u8; ROOT_BYTES] {
    let mut value = [0; ROOT_BYTES];
    value[0] = FORM_LARGE;
    value[8..].copy_from_slice(&id.to_le_bytes());
    value
}

/// The id in a collection's value; None if it is compact.
pub fn root_id(value: &[u8]) -> Option<u64> {
    if value.len() == ROOT_BYTES && value[0] == FORM_LARGE {
        Some(u64::from_le_bytes(value[8..].try_into().expect("eight bytes")))
    } else {
        None
    }
}

/// A score as a number that sorts as the scores do (IEEE 754 totalOrder; minus zero counts as zero).
pub fn score_sort(score: f64) -> u64 {
    let bits = if score == 0.0 { 0 } else { score.to_bits() };
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

/// The score of such a number.
#[inline]
pub fn sort_score(sort: u64) -> f64 {
    f64::from_bits(if sort >> 63 == 1 { sort & !(1 << 63) } else { !sort })
}

/// By what a part is sorted, before its name.
pub fn sort_of(kind_code: u8, name: &[u8], value: &[u8]) -> u64 {
    const LIST: u8 = Kind::ListPart as u8;
    const ZSET: u8 = Kind::ZsetPart as u8;
    let word = |bytes: &[u8]| <[u8; 8]>::try_from(bytes.get(..8).unwrap_or(&[0; 8])).expect("eight bytes");
    match kind_code {
        LIST => u64::from_be_bytes(word(name)),
        ZSET => score_sort(f64::from_le_bytes(word(value))),
        _ => xxh3_64(name),
    }
}

fn meta_at(map: &OwnerMap, offset: u64) -> Meta {
    Meta(map.load(offset + WORD))
}

pub fn name_at(map: &OwnerMap, offset: u64) -> &[u8] {
    let meta = meta_at(map, offset);
    name_in(map.slice(offset + meta.key_at(), meta.key_bytes()))
}

pub fn value_at(map: &OwnerMap, offset: u64) -> &[u8] {
    let meta = meta_at(map, offset);
    map.slice(offset + meta.value_at(), meta.value_bytes())
}

fn id_at(map: &OwnerMap, offset: u64) -> u64 {
    let meta = meta_at(map, offset);
    id_in(map.slice(offset + meta.key_at(), meta.key_bytes()))
}

fn sort_at(map: &OwnerMap, offset: u64) -> u64 {
    sort_of(meta_at(map, offset).kind_code(), name_at(map, offset), value_at(map, offset))
}

fn is_part_entry(map: &OwnerMap, offset: u64) -> bool {
    let meta = meta_at(map, offset);
    meta.is_part() && is_part_key(map.slice(offset + meta.key_at(), meta.key_bytes()))
}

impl Collections {
    pub fn get(&self, id: u64) -> Option<&Collection> {
        self.by_id.get(&id)
    }

    /// A collection that was begun and not finished.
    pub fn condemn(&mut self, id: u64) {
        if self.by_id.contains_key(&id) {
            self.dying.push_back(id);
        }
    }

    /// Those that have no root, are not dying yet, and of which `garbage` says so.
    fn condemn_where(&mut self, garbage: impl Fn(&Collection) -> bool) {
        for (&id, collection) in &self.by_id {
            if collection.roots.is_empty() && garbage(collection) && !self.dying.contains(&id) {
                self.dying.push_back(id);
            }
        }
    }

    pub fn clear(&mut self) {
        *self = Collections::default();
    }

    /// The part at `from` is now the one at `to`; None: there was, or is, none. Both entries must still be readable.
    pub fn reorder(&mut self, map: &OwnerMap, from: Option<u64>, to: Option<u64>, now_ms: u64) {
        let from = from.filter(|&at| is_part_entry(map, at));
        let to = to.filter(|&at| is_part_entry(map, at));
        let Some(any) = to.or(from) else { return };
        let id = id_at(map, any);
        if to.is_none() && !self.by_id.contains_key(&id) {
            return;
        }
        let collection = self.by_id.entry(id).or_default();
        let order = &mut collection.order;
        let to = to.map(|at| Item {
            sort: sort_at(map, at),
            at,
        });
        let from = from.map(|at| Item {
            sort: sort_at(map, at),
            at,
        });
        if let Some(from) = from.filter(|from| to.is_none_or(|to| to.sort != from.sort)) {
            let (position, there) = order.find(from.sort, name_at(map, from.at), |at| name_at(map, at));
            if there {
                order.remove(position);
            }
        }
        if let Some(to) = to {
            collection.fed_ms = now_ms;
            let (position, there) = order.find(to.sort, name_at(map, to.at), |at| name_at(map, at));
            if there {
                order.set(position, to);
            } else {
                order.insert(position, to);
            }
        } else if order.is_empty() && collection.roots.is_empty() {
            self.by_id.remove(&id);
        }
    }

    /// The root at this offset is in the index.
    pub fn root_linked(&mut self, map: &OwnerMap, offset: u64) {
        if let Some(id) = root_id(value_at(map, offset)) {
            let roots = &mut self.by_id.entry(id).or_default().roots;
            if !roots.contains(&offset) {
                roots.push(offset);
            }
        }
    }

    /// The root at this offset is out of the index.
    pub fn root_unlinked(&mut self, map: &OwnerMap, offset: u64) {
        let Some(id) = root_id(value_at(map, offset)) else { return };
        let Some(collection) = self.by_id.get_mut(&id) else { return };
        collection.roots.retain(|&mut root| root != offset);
        if collection.roots.is_empty() {
            if collection.order.is_empty() {
                self.by_id.remove(&id);
            } else {
                self.dying.push_back(id);
            }
        }
    }

    /// Collections that have a root and no part any more: their roots.
    pub fn emptied(&self, id: u64) -> Option<u64> {
        let collection = self.by_id.get(&id)?;
        collection
            .order
            .is_empty()
            .then(|| collection.roots.first().copied())
            .flatten()
    }
}

impl Owner {
    /// An entry was linked in place of another.
    #[inline]
    pub(super) fn collection_linked(&mut self, bucket: u64, from: Option<(Offset, Meta)>, to: Offset, meta: Meta) {
        let concerned =
            meta.is_part() || meta.is_collection() || from.is_some_and(|(_, old)| old.is_part() || old.is_collection());
        if !concerned || self.is_before_walk(bucket) {
            return;
        }
        if meta.is_collection() {
            self.collections.root_linked(&self.map, to.0);
        }
        let old = from.filter(|(_, old)| old.is_part()).map(|(offset, _)| offset.0);
        if (meta.is_part() || old.is_some()) && !self.committing {
            let new = meta.is_part().then_some(to.0);
            self.collections.reorder(&self.map, old, new, self.now_ms);
        }
        if let Some((offset, _)) = from.filter(|(_, old)| old.is_collection()) {
            self.collections.root_unlinked(&self.map, offset.0);
        }
    }

    /// An entry is out of the index, and its memory not yet given back.
    #[inline]
    pub(super) fn collection_unlinked(&mut self, bucket: u64, offset: Offset, meta: Meta) {
        if self.is_before_walk(bucket) {
            return;
        }
        if meta.is_part() && !self.committing {
            self.collections.reorder(&self.map, Some(offset.0), None, self.now_ms);
        } else if meta.is_collection() {
            self.collections.root_unlinked(&self.map, offset.0);
        }
    }

    /// Compaction moved an entry; both places hold it.
    #[inline]
    pub(super) fn collection_moved(&mut self, from: Offset, to: Offset, meta: Meta) {
        if meta.is_part() {
            self.collections.reorder(&self.map, Some(from.0), Some(to.0), self.now_ms);
        } else if meta.is_collection() {
            self.collections.root_linked(&self.map, to.0);
            self.collections.root_unlinked(&self.map, from.0);
        }
    }

    /// The walk after an attach met an entry.
    #[inline]
    pub(super) fn collection_seen(&mut self, offset: Offset, meta: Meta) {
        if meta.is_part() {
            self.collections.reorder(&self.map, None, Some(offset.0), self.now_ms);
        } else if meta.is_collection() {
            self.collections.root_linked(&self.map, offset.0);
        }
    }

    /// True if the walk has yet to come to this bucket, and will tell what is in it.
    fn is_before_walk(&self, bucket: u64) -> bool {
        self.walk.as_ref().is_some_and(|walk| bucket >= walk.next_bucket)
    }

    /// Free some parts of collections that are gone. True if any were.
    pub(super) fn free_dying(&mut self) -> bool {
        let mut freed = 0;
        while let (true, Some(&id)) = (freed < FREE_SLICE, self.collections.dying.front()) {
            let gone = match self.collections.by_id.get(&id) {
                // It was given a root again.
                Some(collection) if !collection.roots.is_empty() || self.pinned.contains(&id) => None,
                Some(collection) => collection.order.last(),
                None => None,
            };
            match gone.and_then(|item| self.found_at(Offset(item.at))) {
                Some(found) => {
                    self.unlink(&found);
                    freed += 1;
                }
                None => {
                    self.collections.dying.pop_front();
                    // A part of an open group has no place in the index: it is the group's to free.
                    if self
                        .collections
                        .by_id
                        .get(&id)
                        .is_some_and(|collection| collection.roots.is_empty())
                        && gone.is_some()
                    {
                        self.collections.by_id.remove(&id);
                    }
                }
            }
        }
        freed > 0
    }

    /// Parts without a root are garbage: nothing is on its way that would bring one.
    pub(super) fn condemn_rootless(&mut self) {
        self.collections.condemn_where(|_| true);
    }

    /// Now and then: collections that have been without a root for too long.
    pub(super) fn find_rootless(&mut self) {
        let now_ms = self.now_ms;
        if self.walk.is_some() || now_ms < self.collections.searched_ms + 60_000 {
            return;
        }
        self.collections.searched_ms = now_ms;
        self.collections
            .condemn_where(|collection| collection.fed_ms + ROOTLESS_MS < now_ms);
    }

    /// After parts expired: the key of a collection that has none left goes too.
    pub(super) fn drop_if_emptied(&mut self, id: u64) {
        if let Some(found) = self.collections.emptied(id).and_then(|root| self.found_at(Offset(root))) {
            self.erase(&found, crate::log::Effect::Expired);
        }
    }

    /// Whether the command under way works on the collection with this root.
    pub(super) fn is_pinned(&self, root: Offset) -> bool {
        !self.pinned.is_empty() && root_id(value_at(&self.map, root.0)).is_some_and(|id| self.pinned.contains(&id))
    }

    pub(super) fn part_id(&self, offset: Offset) -> u64 {
        id_at(&self.map, offset.0)
    }

    /// Check that the orders are what the index says. Part of `verify`.
    pub(super) fn verify_collections(&self) -> Result<(), String> {
        let mut parts = 0;
        for (id, collection) in &self.collections.by_id {
            let mut last: Option<(u64, &[u8])> = None;
            for item in collection.order.iter() {
                let found = self.found_at(Offset(item.at));
                if found.is_none() || !is_part_entry(&self.map, item.at) || id_at(&self.map, item.at) != *id {
                    return Err(format!(
                        "collection {id:x} names an entry at {} that is no part of it",
                        item.at
                    ));
                }
                let this = (item.sort, name_at(&self.map, item.at));
                if item.sort != sort_at(&self.map, item.at) || last.is_some_and(|last| last >= this) {
                    return Err(format!("collection {id:x} is not in order at {}", item.at));
                }
                last = Some(this);
                parts += 1;
            }
        }
        if parts != self.parts {
            return Err(format!("{parts} parts in order, {} by count", self.parts));
        }
        Ok(())
    }
}
