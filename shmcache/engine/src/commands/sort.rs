//! SORT: the elements of a list, set or sorted set, by themselves or by what other keys say of them.
//!
//! The keys that patterns name are looked up in this shard: one of a slot that it does not own counts as missing.

use super::events::event;
use super::number::int_arg;
use super::reply::Sink;
use super::table::Command;
use super::{Args, Fail};
use crate::compact::Compact;
use crate::layout::Kind;
use crate::owner::large::{Element, Opened};
use crate::owner::Owner;
use crate::parts::is_reserved;
use crate::slots::slot_of;
use std::cmp::Ordering;

#[derive(Default)]
struct Options<'a> {
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    offset: i64,
    /// Negative: all.
    count: i64,
    descending: bool,
    alpha: bool,
    store: Option<&'a [u8]>,
}

fn parse<'a>(args: &[&'a [u8]], may_store: bool) -> Result<Options<'a>, Fail> {
    let mut options = Options {
        count: -1,
        ..Options::default()
    };
    let mut rest = args;
    while let Some((word, after)) = rest.split_first() {
        rest = match (word.to_ascii_lowercase().as_slice(), after) {
            (b"asc", _) => {
                options.descending = false;
                after
            }
            (b"desc", _) => {
                options.descending = true;
                after
            }
            (b"alpha", _) => {
                options.alpha = true;
                after
            }
            (b"limit", [offset, count, rest @ ..]) => {
                (options.offset, options.count) = (int_arg(offset)?, int_arg(count)?);
                rest
            }
            (b"store", [key, rest @ ..]) if may_store => {
                options.store = Some(key);
                rest
            }
            (b"by", [pattern, rest @ ..]) => {
                options.by = Some(pattern);
                rest
            }
            (b"get", [pattern, rest @ ..]) => {
                options.get.push(pattern);
                rest
            }
            _ => return Err(Fail::syntax()),
        };
    }
    Ok(options)
}

/// What an element is sorted by.
enum Weight {
    Number(f64),
    /// None: the key that should tell is missing. It comes first.
    Text(Option<Vec<u8>>),
}

pub fn run(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let is_ro = super::table::find(args[0]).is_some_and(|spec| spec.command == Command::SortRo);
    let mut options = parse(&args[2..], !is_ro)?;
    if let Some(target) = options.store {
        check_target(owner, target)?;
    }
    let (kind, mut elements) = elements_of(owner, args[1])?;
    let mut unsorted = options.by.is_some_and(|pattern| !pattern.contains(&b'*'));
    if unsorted && kind == Some(Kind::Set) && options.store.is_some() {
        // What is stored shall not depend on the order that a set happens to have.
        (unsorted, options.alpha, options.by) = (false, true, None);
    }
    if unsorted {
        if options.descending && kind != Some(Kind::Set) {
            elements.reverse();
        }
    } else {
        elements = sorted(owner, elements, &options)?;
    }
    let range = limits(&options, elements.len());
    let chosen = &elements[range];
    let per_element = options.get.len().max(1);
    let mut values: Vec<Option<Vec<u8>>> = Vec::with_capacity(chosen.len() * per_element);
    for element in chosen {
        if options.get.is_empty() {
            values.push(Some(element.clone()));
        }
        for pattern in &options.get {
            values.push(look_up(owner, pattern, element));
        }
    }
    match options.store {
        None => {
            out.array(values.len());
            for value in &values {
                match value {
                    Some(value) => out.bytes(value),
                    None => out.nil(),
                }
            }
        }
        Some(target) => {
            let list: Vec<Element> = values
                .into_iter()
                .map(|value| Element {
                    value: value.unwrap_or_default(),
                    ..Element::default()
                })
                .collect();
            if list.is_empty() {
                owner.event = event("del");
            }
            owner.store(target, Kind::List, &list, 0)?;
            out.int(list.len() as i64);
        }
    }
    Ok(())
}

/// The key that gets the result is no key of the command's row.
pub(super) fn check_target(owner: &Owner, target: &[u8]) -> Result<(), Fail> {
    if is_reserved(target) {
        return Err(Fail::new(
            "LIMIT",
            "keys that begin with ff 50 00 ff are kept for the parts of large collections",
        ));
    }
    if owner.has_slots() && !owner.owns_slot(slot_of(target)) {
        return Err(Fail::new(
            "CROSSSLOT",
            "the key of STORE hashes to another shard: give both a common {hash tag}",
        ));
    }
    Ok(())
}

fn elements_of(owner: &mut Owner, key: &[u8]) -> Result<(Option<Kind>, Vec<Vec<u8>>), Fail> {
    let Some(entry) = owner.access(key) else {
        return Ok((None, Vec::new()));
    };
    let kind = Kind::from_code(entry.meta.kind_code())
        .filter(|kind| matches!(kind, Kind::List | Kind::Set | Kind::Zset))
        .ok_or_else(Fail::wrong_type)?;
    let elements = owner.elements(key, kind, entry).into_iter();
    let elements = elements.map(|element| if kind == Kind::List { element.value } else { element.name });
    Ok((Some(kind), elements.collect()))
}

fn limits(options: &Options, length: usize) -> std::ops::Range<usize> {
    let start = options.offset.clamp(0, length as i64) as usize;
    let count = if options.count < 0 {
        length
    } else {
        options.count.min(length as i64) as usize
    };
    start..(start + count).min(length)
}

fn sorted(owner: &mut Owner, elements: Vec<Vec<u8>>, options: &Options) -> Result<Vec<Vec<u8>>, Fail> {
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let by = match options.by {
            Some(pattern) => look_up(owner, pattern, &element),
            None => Some(element.clone()),
        };
        let weight = if options.alpha {
            Weight::Text(by)
        } else {
            Weight::Number(by.map_or(Ok(0.0), |text| number(&text))?)
        };
        weighed.push((weight, element));
    }
    weighed.sort_by(|(one, element), (other, another)| {
        let order = match (one, other) {
            (Weight::Number(one), Weight::Number(other)) => one.partial_cmp(other).unwrap_or(Ordering::Equal),
            (Weight::Text(one), Weight::Text(other)) => one.cmp(other),
            _ => unreachable!("all have weights of one kind"),
        };
        let order = order.then_with(|| element.cmp(another));
        if options.descending {
            order.reverse()
        } else {
            order
        }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

/// A weight as Redis reads it: nothing is 0, blanks may stand before.
fn number(text: &[u8]) -> Result<f64, Fail> {
    let wrong = || Fail::err("One or more scores can't be converted into double");
    if text.is_empty() {
        return Ok(0.0);
    }
    let value: f64 = std::str::from_utf8(text)
        .map_err(|_| wrong())?
        .trim_ascii_start()
        .parse()
        .map_err(|_| wrong())?;
    let is_infinite = value.is_infinite() && !text.to_ascii_lowercase().windows(3).any(|word| word == b"inf");
    if value.is_nan() || is_infinite {
        return Err(wrong());
    }
    Ok(value)
}

/// The value of the key (or of a hash's field) that a pattern names for an element; `#` is the element itself.
fn look_up(owner: &mut Owner, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|&byte| byte == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    // An arrow with nothing behind it is part of the key's name.
    let arrow = after
        .windows(2)
        .position(|two| two == b"->")
        .filter(|at| at + 2 < after.len());
    let (after, field) = match arrow {
        Some(at) => (&after[..at], Some(&after[at + 2..])),
        None => (after, None),
    };
    let key = [before, element, after].concat();
    if is_reserved(&key) || owner.has_slots() && !owner.owns_slot(slot_of(&key)) {
        return None;
    }
    let Some(field) = field else {
        let entry = owner
            .access(&key)
            .filter(|entry| entry.meta.kind_code() == Kind::String as u8)?;
        return Some(owner.value(&entry).to_vec());
    };
    match owner.open(&key, Kind::Hash).ok()? {
        Opened::Missing => None,
        Opened::Compact(entry) => Compact::field(&owner.small(&entry), field).map(<[u8]>::to_vec),
        Opened::Large(large) => {
            let part = owner.part(&large, field);
            // One of very many hashes, perhaps, and done with.
            owner.unpin();
            part.map(|part| owner.value(&part).to_vec())
        }
    }
}
