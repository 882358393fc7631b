//! Collections as commands use them: opened by key, small ones rewritten whole, large ones changed a part at a time.
//!
//! A change of a large collection is the records of its parts, then its root written anew: so the root's stamp is that of the last change, which
//! is what WATCH and last-write-wins look at. One part may be changed without a group, for a kill between the two records leaves a change that
//! nobody was told of; several belong in one (`grouped`), up to what the log takes.

use super::collections::{name_at, root_id, root_value, value_at, FORM_COMPACT};
use super::list::name_of;
use super::order::{Item, Order, Position};
use super::{Entry, Owner, Refused};
use crate::compact::{Builder, Compact};
use crate::index::Found;
use crate::layout::*;
use crate::parts::{part_key, MAX_NAME_BYTES};
use crate::slots::slot_of;
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64;

/// Up to here a collection is one compact entry: elements, and bytes of each field, value or member.
#[derive(Clone, Copy, Debug)]
pub struct CompactLimit {
    pub elements: usize,
    pub element_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct CompactLimits {
    pub hash: CompactLimit,
    pub list: CompactLimit,
    pub set: CompactLimit,
    pub zset: CompactLimit,
}

impl Default for CompactLimits {
    fn default() -> CompactLimits {
        let limit = CompactLimit {
            elements: 128,
            element_bytes: 64,
        };
        CompactLimits {
            hash: limit,
            list: limit,
            set: limit,
            zset: limit,
        }
    }
}

/// What an option may set them to at most: a compact collection is written anew with every change, and its elements may have to become parts.
const COMPACT_ENTRIES_MAX: usize = 65_536;
const COMPACT_BYTES_MAX: usize = MAX_NAME_BYTES;

impl CompactLimits {
    /// Every limit by the name of its option.
    pub fn options(&self) -> [(&'static str, usize); 8] {
        [
            ("hash_compact_entries", self.hash.elements),
            ("hash_compact_bytes", self.hash.element_bytes),
            ("list_compact_entries", self.list.elements),
            ("list_compact_bytes", self.list.element_bytes),
            ("set_compact_entries", self.set.elements),
            ("set_compact_bytes", self.set.element_bytes),
            ("zset_compact_entries", self.zset.elements),
            ("zset_compact_bytes", self.zset.element_bytes),
        ]
    }

    /// The limit that an option of `configure` sets, `hash_compact_entries`, `set_compact_bytes` and so on, and its largest value.
    pub fn by_option(&mut self, name: &str) -> Option<(&mut usize, usize)> {
        let (kind, what) = name.split_once('_')?;
        let limit = match kind {
            "hash" => &mut self.hash,
            "list" => &mut self.list,
            "set" => &mut self.set,
            "zset" => &mut self.zset,
            _ => return None,
        };
        match what {
            "compact_entries" => Some((&mut limit.elements, COMPACT_ENTRIES_MAX)),
            "compact_bytes" => Some((&mut limit.element_bytes, COMPACT_BYTES_MAX)),
            _ => None,
        }
    }

    pub fn of(&self, kind: Kind) -> CompactLimit {
        match kind {
            Kind::Hash => self.hash,
            Kind::List => self.list,
            Kind::Set => self.set,
            Kind::Zset => self.zset,
            other => unreachable!("{other:?} is never compact"),
        }
    }
}

/// The key holds another kind of value.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongKind;

/// A key, looked at as a collection. The entry is valid until the next write.
pub enum Opened {
    Missing,
    Compact(Entry),
    Large(Large),
}

/// A large collection that a command works on. It stays valid while the collection lives.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    pub kind: Kind,
    pub id: u64,
    slot: u16,
    /// Of the key, unix ms; 0 = none.
    pub deadline: u64,
}

/// One element on its own: `name` is the field or member (empty in a list), `value` the hash's value, the list's element or the score's 8 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
    /// Of a hash's field, unix ms; 0 = none.
    pub deadline: u64,
}

/// Positions in a list are this far apart, so that elements can be put between.
pub const LIST_STEP: u64 = 1 << 20;
/// The position of a list's first element: both ends are 2^63 away.
pub const LIST_MIDDLE: u64 = 1 << 63;

impl Owner {
    /// Look at a key as a collection of this kind.
    pub fn open(&mut self, key: &[u8], kind: Kind) -> Result<Opened, WrongKind> {
        let Some(entry) = self.lookup(key) else {
            return Ok(Opened::Missing);
        };
        if entry.meta.kind_code() != kind as u8 {
            return Err(WrongKind);
        }
        Ok(self.opened(key, kind, entry))
    }

    /// As `open`, of an entry that was looked up.
    pub fn opened(&mut self, key: &[u8], kind: Kind, entry: Entry) -> Opened {
        match root_id(self.value(&entry)) {
            Some(id) => {
                self.pin(id);
                Opened::Large(Large {
                    kind,
                    id,
                    slot: slot_of(key),
                    deadline: self.deadline(&entry),
                })
            }
            None => Opened::Compact(entry),
        }
    }

    /// Keep a collection from being evicted until the command ends.
    fn pin(&mut self, id: u64) {
        if !self.pinned.contains(&id) {
            self.pinned.push(id);
        }
    }

    /// A command ends.
    #[inline]
    pub fn unpin(&mut self) {
        self.pinned.clear();
    }

    /// A compact collection's elements.
    pub fn small(&self, entry: &Entry) -> Compact<'_> {
        static NOTHING: [u8; 8] = [FORM_COMPACT, 0, 0, 0, 0, 0, 0, 0];
        Compact::parse(self.value(entry)).unwrap_or_else(|| Compact::parse(&NOTHING).expect("an empty value"))
    }

    // ------------------------------------------------------------ parts

    /// A live part by its name.
    pub fn part(&mut self, large: &Large, name: &[u8]) -> Option<Entry> {
        if name.len() > MAX_NAME_BYTES {
            return None;
        }
        let key = part_key(large.slot, large.id, name);
        let entry = self.lookup(&key);
        if entry.is_none() {
            // It may have just expired, and been the last.
            self.drop_if_emptied(large.id);
        }
        entry
    }

    /// The value of a part that has no deadline, without more ado: it counts as no access.
    pub fn part_value(&self, large: &Large, name: &[u8]) -> Option<&[u8]> {
        if name.len() > MAX_NAME_BYTES {
            return None;
        }
        let offset = self.visible(&part_key(large.slot, large.id, name))?;
        Some(value_at(&self.map, offset.0))
    }

    pub fn put_part(&mut self, large: &Large, name: &[u8], value: &[u8], deadline: u64) -> Result<(), Refused> {
        if name.len() > MAX_NAME_BYTES {
            return Err(Refused::NameTooLong);
        }
        let key = part_key(large.slot, large.id, name);
        self.put(&key, large.kind.part(), value, deadline).map(|_| ())
    }

    /// False if there is none.
    pub fn remove_part(&mut self, large: &Large, name: &[u8]) -> bool {
        name.len() <= MAX_NAME_BYTES && self.remove(&part_key(large.slot, large.id, name))
    }

    /// The parts in order. (After a restart the first look at any order may have to wait for the walk of the index.)
    pub fn order(&mut self, large: &Large) -> &Order {
        // An error is found again, and told, by `tick`.
        let _ = self.finish_walk();
        self.known_order(large)
    }

    /// As `order`, between changes of one command: `order` was called before.
    pub fn known_order(&self, large: &Large) -> &Order {
        static NONE: LazyLock<Order> = LazyLock::new(Order::default);
        self.collections.get(large.id).map_or(&NONE, |collection| &collection.order)
    }

    pub fn length(&mut self, large: &Large) -> usize {
        self.order(large).len()
    }

    #[inline]
    pub fn item_name(&self, item: Item) -> &[u8] {
        name_at(&self.map, item.at)
    }

    #[inline]
    pub fn item_value(&self, item: Item) -> &[u8] {
        value_at(&self.map, item.at)
    }

    /// Of a hash's field, unix ms; 0 = none.
    pub fn item_deadline(&self, item: Item) -> u64 {
        let offset = Offset(item.at);
        self.deadline_at(offset, self.meta_of(offset))
    }

    /// False for a hash's field whose deadline has passed, and that is not reclaimed yet.
    pub fn item_lives(&self, item: Item) -> bool {
        let deadline = self.item_deadline(item);
        deadline == 0 || deadline > self.now_ms
    }

    /// What an entry says of itself.
    pub fn meta_of(&self, offset: Offset) -> Meta {
        Meta(self.map.load(offset.0 + WORD))
    }

    /// Where a part of this sort and name stands or would stand in the order.
    pub fn find_in_order(&self, large: &Large, sort: u64, name: &[u8]) -> (Position, bool) {
        self.known_order(large).find(sort, name, |at| name_at(&self.map, at))
    }

    // ------------------------------------------------------------ roots

    /// A new large collection, invisible until its root is written. Its parts are written first, each for itself: a kill leaves garbage, no half.
    pub fn new_large(&mut self, key: &[u8], kind: Kind, deadline: u64) -> Large {
        let stamp = self.next_stamp();
        // Nobody else makes the same: stamps are the shard's and node's own, and the seed differs between regions.
        let seed = self.map.load(header::HASH_SEED);
        let id = xxh3_64(&[stamp, self.node as u64, seed].map(u64::to_le_bytes).concat());
        self.pin(id);
        Large {
            kind,
            id,
            slot: slot_of(key),
            deadline,
        }
    }

    /// Write a large collection's root: make it visible, or say that it changed.
    pub fn put_root(&mut self, key: &[u8], large: &Large) -> Result<(), Refused> {
        // In place where nobody else writes, as a deadline (`set_deadline`): what may be another node's root must come with its value.
        if self.node == 0 && !self.in_group() {
            let found = self.index.find(&self.map, self.index.hash(key), key);
            if let Some(found) = found.filter(|found| self.is_root_of(found, large)) {
                let origin = self.next_origin();
                self.change_root(key, &found, origin);
                return Ok(());
            }
        }
        self.put(key, large.kind, &root_value(large.id), large.deadline).map(|_| ())
    }

    /// Whether the entry is this collection's root as it is to be, but for its stamp. (Not a stale one: a sync may find it or miss it.)
    fn is_root_of(&self, found: &Found, large: &Large) -> bool {
        found.meta.kind_code() == large.kind as u8
            && !found.meta.is_stale()
            && self.deadline_at(found.offset, found.meta) == large.deadline
            && root_id(value_at(&self.map, found.offset.0)) == Some(large.id)
    }

    pub(super) fn is_large_root(&self, found: &Found) -> bool {
        found.meta.is_collection() && root_id(value_at(&self.map, found.offset.0)).is_some()
    }

    /// Give a key this collection, whatever it had, compact if it is small; without elements the key is deleted. Elements of a sorted set come in order.
    pub fn store(&mut self, key: &[u8], kind: Kind, elements: &[Element], deadline: u64) -> Result<(), Refused> {
        if elements.is_empty() {
            self.remove(key);
            return Ok(());
        }
        let limit = self.compact_limits.of(kind);
        let small = |element: &Element| {
            element.name.len() <= limit.element_bytes
                && element.value.len() <= limit.element_bytes.max(8)
                && element.deadline == 0
        };
        if elements.len() <= limit.elements && elements.iter().all(small) {
            let value = encode(kind, elements);
            return self.put(key, kind, &value, deadline).map(|_| ());
        }
        self.store_large(key, kind, elements, deadline).map(|_| ())
    }

    /// As `store`, large however small it is.
    pub fn store_large(&mut self, key: &[u8], kind: Kind, elements: &[Element], deadline: u64) -> Result<Large, Refused> {
        let large = self.new_large(key, kind, deadline);
        let result = self.within(|owner| {
            for (index, element) in elements.iter().enumerate() {
                match kind {
                    Kind::List => owner.put_part(&large, &name_of(LIST_MIDDLE + index as u64 * LIST_STEP), &element.value, 0)?,
                    _ => owner.put_part(&large, &element.name, &element.value, element.deadline)?,
                }
            }
            owner.put_root(key, &large)
        });
        if let Err(refused) = result {
            self.collections.condemn(large.id);
            return Err(refused);
        }
        Ok(large)
    }

    /// Make a compact collection large, its elements and deadline unchanged.
    pub fn enlarge(&mut self, key: &[u8], kind: Kind, entry: &Entry) -> Result<Large, Refused> {
        let deadline = self.deadline(entry);
        let elements = decode(kind, self.small(entry));
        self.store_large(key, kind, &elements, deadline)
    }

    /// All elements of a collection, in order (a hash's and a set's in none that means anything).
    pub fn elements(&mut self, key: &[u8], kind: Kind, entry: Entry) -> Vec<Element> {
        match self.opened(key, kind, entry) {
            Opened::Missing => Vec::new(),
            Opened::Compact(entry) => decode(kind, self.small(&entry)),
            Opened::Large(large) => {
                let items: Vec<Item> = self.order(&large).iter().collect();
                items.into_iter().filter_map(|item| self.element(kind, item)).collect()
            }
        }
    }

    /// A part as an element; None if it has expired.
    pub fn element(&self, kind: Kind, item: Item) -> Option<Element> {
        if !self.item_lives(item) {
            return None;
        }
        let name = if kind == Kind::List { &[][..] } else { self.item_name(item) };
        Some(Element {
            name: name.to_vec(),
            value: self.item_value(item).to_vec(),
            deadline: self.item_deadline(item),
        })
    }
}

/// A compact value of these elements.
pub fn encode(kind: Kind, elements: &[Element]) -> Vec<u8> {
    let room = elements
        .iter()
        .map(|element| element.name.len() + element.value.len() + 10)
        .sum();
    let mut builder = Builder::with_room(room);
    for element in elements {
        match kind {
            Kind::Hash => builder.pair(&element.name, &element.value),
            Kind::List => builder.string(&element.value),
            Kind::Set => builder.string(&element.name),
            Kind::Zset => builder.scored(score_of(&element.value), &element.name),
            other => unreachable!("{other:?} is no collection"),
        }
    }
    builder.finish()
}

/// The elements of a compact value.
pub fn decode(kind: Kind, compact: Compact) -> Vec<Element> {
    let element = |name: &[u8], value: &[u8]| Element {
        name: name.to_vec(),
        value: value.to_vec(),
        deadline: 0,
    };
    match kind {
        Kind::Hash => compact.pairs().map(|(field, value)| element(field, value)).collect(),
        Kind::List => compact.strings().map(|value| element(&[], value)).collect(),
        Kind::Set => compact.strings().map(|member| element(member, &[])).collect(),
        Kind::Zset => compact
            .scored()
            .map(|(score, member)| element(member, &score.to_le_bytes()))
            .collect(),
        other => unreachable!("{other:?} is no collection"),
    }
}

/// The score in a sorted set's part.
pub fn score_of(value: &[u8]) -> f64 {
    value
        .get(..8)
        .map_or(0.0, |bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}
