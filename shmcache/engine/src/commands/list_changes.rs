//! What changes a list. Small ones are written anew, large ones an element at a time.

use super::lists::{rank, ranks};
use super::number::int_arg;
use super::Fail;
use crate::compact::Builder;
use crate::layout::Kind;
use crate::owner::large::{decode, Element, Large, Opened};
use crate::owner::list::{name_of, End};
use crate::owner::{Entry, Owner};

/// More elements than this that go at once go by writing the rest anew, if that is less.
const MANY: usize = 1000;

fn element_of(value: &[u8]) -> Element {
    Element {
        value: value.to_vec(),
        ..Element::default()
    }
}

fn elements_of(owner: &Owner, entry: &Entry) -> Vec<Element> {
    decode(Kind::List, owner.small(entry))
}

/// A small list's elements after a change, under its deadline.
fn rewrite(owner: &mut Owner, key: &[u8], entry: &Entry, elements: &[Element]) -> Result<(), Fail> {
    let deadline = owner.deadline(entry);
    owner.store(key, Kind::List, elements, deadline)?;
    Ok(())
}

/// Put elements to an end, one after the other; the new length.
pub(super) fn push(owner: &mut Owner, key: &[u8], elements: &[&[u8]], end: End, only_existing: bool) -> Result<usize, Fail> {
    let limit = owner.compact_limits.list;
    match owner.open(key, Kind::List)? {
        Opened::Missing if only_existing => Ok(0),
        Opened::Missing => {
            let mut all: Vec<Element> = elements.iter().map(|element| element_of(element)).collect();
            if end == End::Left {
                all.reverse();
            }
            owner.store(key, Kind::List, &all, 0)?;
            Ok(all.len())
        }
        Opened::Compact(entry) => {
            let old = owner.small(&entry);
            let fits = old.count + elements.len() <= limit.elements
                && elements.iter().all(|element| element.len() <= limit.element_bytes.max(8));
            if !fits {
                let large = owner.enlarge(key, Kind::List, &entry)?;
                return push_parts(owner, key, large, elements, end);
            }
            let room = elements.iter().map(|element| element.len() + 2).sum::<usize>();
            let mut builder = Builder::with_room(owner.value(&entry).len() + room);
            if end == End::Left {
                elements.iter().rev().for_each(|element| builder.string(element));
            }
            old.strings().for_each(|element| builder.string(element));
            if end == End::Right {
                elements.iter().for_each(|element| builder.string(element));
            }
            let (length, deadline) = (builder.count(), owner.deadline(&entry));
            owner.put(key, Kind::List, &builder.finish(), deadline)?;
            Ok(length)
        }
        Opened::Large(large) => push_parts(owner, key, large, elements, end),
    }
}

fn push_parts(owner: &mut Owner, key: &[u8], large: Large, elements: &[&[u8]], end: End) -> Result<usize, Fail> {
    let large = owner.make_room(key, large, end, elements.len())?;
    owner.several(elements.len(), |owner| {
        for element in elements {
            let position = owner.position_at(&large, end).expect("there is room");
            owner.put_part(&large, &name_of(position), element, 0)?;
        }
        owner.put_root(key, &large)?;
        Ok(owner.length(&large))
    })
}

/// Take up to `count` elements from an end; None without a list.
pub(super) fn pop(owner: &mut Owner, key: &[u8], end: End, count: usize) -> Result<Option<Vec<Vec<u8>>>, Fail> {
    let popped = match owner.open(key, Kind::List)? {
        Opened::Missing => return Ok(None),
        _ if count == 0 => Vec::new(),
        Opened::Compact(entry) => {
            let list = owner.small(&entry);
            let count = count.min(list.count);
            let (from, to) = match end {
                End::Left => (0, count),
                End::Right => (list.count - count, list.count),
            };
            let mut popped = Vec::with_capacity(count);
            let mut builder = Builder::with_room(owner.value(&entry).len());
            for (index, element) in list.strings().enumerate() {
                if (from..to).contains(&index) {
                    popped.push(element.to_vec());
                } else {
                    builder.string(element);
                }
            }
            if builder.count() == 0 {
                owner.remove(key);
            } else {
                let deadline = owner.deadline(&entry);
                owner.put(key, Kind::List, &builder.finish(), deadline)?;
            }
            if end == End::Right {
                popped.reverse();
            }
            popped
        }
        Opened::Large(large) => {
            let length = owner.length(&large);
            let count = count.min(length);
            let ranks = match end {
                End::Left => 0..count,
                End::Right => length - count..length,
            };
            let order = owner.order(&large);
            let items: Vec<_> = order.range(ranks.clone()).collect();
            let mut popped: Vec<Vec<u8>> = items.iter().map(|&item| owner.item_value(item).to_vec()).collect();
            let kept = match end {
                End::Left => count..length,
                End::Right => 0..length - count,
            };
            keep(owner, key, &large, kept)?;
            if end == End::Right {
                popped.reverse();
            }
            popped
        }
    };
    Ok(Some(popped))
}

/// Remove all elements of a large list but those of these ranks.
fn keep(owner: &mut Owner, key: &[u8], large: &Large, ranks: std::ops::Range<usize>) -> Result<(), Fail> {
    let length = owner.length(large);
    let gone = length - ranks.len();
    if ranks.is_empty() {
        // The elements die in slices.
        owner.remove(key);
        return Ok(());
    }
    if gone == 0 {
        return Ok(());
    }
    if gone > MANY && ranks.len() < gone {
        let order = owner.order(large);
        let items: Vec<_> = order.range(ranks).collect();
        let rest: Vec<Element> = items.into_iter().map(|item| element_of(owner.item_value(item))).collect();
        owner.store(key, Kind::List, &rest, large.deadline)?;
        return Ok(());
    }
    let order = owner.order(large);
    let names: Vec<u64> = order
        .range(0..ranks.start)
        .chain(order.range(ranks.end..length))
        .map(|item| item.sort)
        .collect();
    remove_positions(owner, key, large, &names)
}

/// Remove elements of a large list, but never all.
fn remove_positions(owner: &mut Owner, key: &[u8], large: &Large, positions: &[u64]) -> Result<(), Fail> {
    owner.several(positions.len() + 1, |owner| {
        for &position in positions {
            owner.remove_part(large, &name_of(position));
        }
        owner.put_root(key, large)?;
        Ok(())
    })
}

pub(super) fn set_element(owner: &mut Owner, key: &[u8], at: &[u8], value: &[u8]) -> Result<(), Fail> {
    let outside = || Fail::err("index out of range");
    match owner.open(key, Kind::List)? {
        Opened::Missing => Err(Fail::err("no such key")),
        Opened::Compact(entry) => {
            let mut elements = elements_of(owner, &entry);
            let rank = rank(int_arg(at)?, elements.len()).ok_or_else(outside)?;
            elements[rank].value = value.to_vec();
            rewrite(owner, key, &entry, &elements)
        }
        Opened::Large(large) => {
            let rank = rank(int_arg(at)?, owner.length(&large)).ok_or_else(outside)?;
            let order = owner.order(&large);
            let position = order.get(order.at_rank(rank)).ok_or_else(outside)?.sort;
            owner.within(|owner| {
                owner.put_part(&large, &name_of(position), value, 0)?;
                owner.put_root(key, &large)?;
                Ok(())
            })
        }
    }
}

/// Put an element before or after the first that equals `pivot`. The new length, 0 without a list, -1 without such an element.
pub(super) fn insert(owner: &mut Owner, key: &[u8], pivot: &[u8], value: &[u8], after: bool) -> Result<i64, Fail> {
    match owner.open(key, Kind::List)? {
        Opened::Missing => Ok(0),
        Opened::Compact(entry) => {
            let mut elements = elements_of(owner, &entry);
            let Some(at) = elements.iter().position(|element| element.value == pivot) else {
                return Ok(-1);
            };
            elements.insert(at + after as usize, element_of(value));
            rewrite(owner, key, &entry, &elements)?;
            Ok(elements.len() as i64)
        }
        Opened::Large(large) => {
            owner.order(&large);
            let at = owner
                .known_order(&large)
                .iter()
                .position(|item| owner.item_value(item) == pivot);
            let Some(at) = at else { return Ok(-1) };
            let position = owner.position_before(&large, at + after as usize)?;
            owner.within(|owner| {
                owner.put_part(&large, &name_of(position), value, 0)?;
                owner.put_root(key, &large)?;
                Ok::<(), Fail>(())
            })?;
            Ok(owner.length(&large) as i64)
        }
    }
}

/// Remove the first `count` elements that equal one, the last for a negative number, all for 0; how many there were.
pub(super) fn remove_equal(owner: &mut Owner, key: &[u8], count: i64, value: &[u8]) -> Result<usize, Fail> {
    let most = if count == 0 {
        usize::MAX
    } else {
        count.unsigned_abs() as usize
    };
    match owner.open(key, Kind::List)? {
        Opened::Missing => Ok(0),
        Opened::Compact(entry) => {
            let mut elements = elements_of(owner, &entry);
            let length = elements.len();
            let mut left = most;
            let mut keep = |element: &Element| {
                let goes = left > 0 && element.value == value;
                left -= goes as usize;
                !goes
            };
            if count < 0 {
                elements.reverse();
                elements.retain(&mut keep);
                elements.reverse();
            } else {
                elements.retain(&mut keep);
            }
            let gone = length - elements.len();
            if gone > 0 {
                rewrite(owner, key, &entry, &elements)?;
            }
            Ok(gone)
        }
        Opened::Large(large) => {
            let length = owner.length(&large);
            let order = owner.known_order(&large);
            let is_equal = |item: &crate::owner::order::Item| owner.item_value(*item) == value;
            let found: Vec<u64> = if count < 0 {
                let backward = order.backward(order.at_rank(length));
                backward.filter(is_equal).take(most).map(|item| item.sort).collect()
            } else {
                order.iter().filter(is_equal).take(most).map(|item| item.sort).collect()
            };
            if found.len() == length {
                owner.remove(key);
            } else if !found.is_empty() {
                remove_positions(owner, key, &large, &found)?;
            }
            Ok(found.len())
        }
    }
}

pub(super) fn trim(owner: &mut Owner, key: &[u8], first: i64, last: i64) -> Result<(), Fail> {
    match owner.open(key, Kind::List)? {
        Opened::Missing => Ok(()),
        Opened::Compact(entry) => {
            let mut elements = elements_of(owner, &entry);
            let ranks = ranks(first, last, elements.len());
            if ranks.len() < elements.len() {
                elements.truncate(ranks.end);
                elements.drain(..ranks.start);
                rewrite(owner, key, &entry, &elements)?;
            }
            Ok(())
        }
        Opened::Large(large) => {
            let ranks = ranks(first, last, owner.length(&large));
            keep(owner, key, &large, ranks)
        }
    }
}

/// The element at an end; None without a list.
pub(super) fn peek(owner: &mut Owner, key: &[u8], end: End) -> Result<Option<Vec<u8>>, Fail> {
    Ok(match owner.open(key, Kind::List)? {
        Opened::Missing => None,
        Opened::Compact(entry) => {
            let list = owner.small(&entry);
            let element = if end == End::Left {
                list.strings().next()
            } else {
                list.strings().last()
            };
            element.map(<[u8]>::to_vec)
        }
        Opened::Large(large) => {
            let order = owner.order(&large);
            let item = if end == End::Left { order.first() } else { order.last() };
            item.map(|item| owner.item_value(item).to_vec())
        }
    })
}

/// Take the element at one end of a list and put it to the other end, or the same one.
pub(super) fn rotate(owner: &mut Owner, key: &[u8], from: End, to: End) -> Result<(), Fail> {
    match owner.open(key, Kind::List)? {
        Opened::Missing => Ok(()),
        Opened::Compact(entry) => {
            let mut elements = elements_of(owner, &entry);
            match (from, to) {
                (End::Left, End::Right) => elements.rotate_left(1),
                (End::Right, End::Left) => elements.rotate_right(1),
                _ => {}
            }
            rewrite(owner, key, &entry, &elements)
        }
        Opened::Large(large) => {
            let large = owner.make_room(key, large, to, 1)?;
            let order = owner.order(&large);
            let Some(item) = (if from == End::Left { order.first() } else { order.last() }) else {
                return Ok(());
            };
            let value = owner.item_value(item).to_vec();
            owner.several(3, |owner| {
                if from != to {
                    let position = owner.position_at(&large, to).expect("there is room");
                    owner.put_part(&large, &name_of(position), &value, 0)?;
                    owner.remove_part(&large, &name_of(item.sort));
                }
                owner.put_root(key, &large)?;
                Ok(())
            })
        }
    }
}
