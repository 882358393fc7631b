//! Commands on hashes. Deadlines of fields are in `hash_expiry`, random fields and HSCAN in `picks`.

use super::number::{float_of, int_arg, parse_int, Decimal};
use super::parts::{if_small, large_of, look_for};
use super::read::View;
use super::reply::Sink;
use super::table::Command;
use super::write::sum_text;
use super::{hash_expiry, picks, Args, Fail};
use crate::compact::Builder;
use crate::layout::Kind;
use crate::owner::large::{Element, Large, Opened};
use crate::owner::order::Item;
use crate::owner::{Entry, Owner};

pub(super) type Pair<'a> = (&'a [u8], &'a [u8]);

/// Deadline of fields that are set.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Lasting {
    Forever,
    /// Whatever the field had.
    Kept,
    /// Unix ms, in the future.
    Until(u64),
}

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let key = args[1];
    match command {
        Command::Hset | Command::Hmset => {
            let name = if command == Command::Hset { "hset" } else { "hmset" };
            if args.len() % 2 != 0 {
                return Err(Fail::err(format!("wrong number of arguments for '{name}' command")));
            }
            let new = set_fields(owner, key, &pairs_of(&args[2..]), Lasting::Forever)?;
            if command == Command::Hset {
                out.int(new as i64);
            } else {
                out.ok();
            }
        }
        Command::Hsetnx => {
            let is_new = field_of(owner, key, args[2])?.is_none();
            if is_new {
                set_fields(owner, key, &[(args[2], args[3])], Lasting::Forever)?;
            }
            out.flag(is_new);
        }
        Command::Hdel => {
            let gone = delete_fields(owner, key, &args[2..])?;
            out.int(gone as i64);
        }
        Command::Hincrby => {
            let by = int_arg(args[3])?;
            let old = match field_of(owner, key, args[2])? {
                Some(value) => parse_int(&value).ok_or_else(|| Fail::err("hash value is not an integer"))?,
                None => 0,
            };
            let new = old
                .checked_add(by)
                .ok_or_else(|| Fail::err("increment or decrement would overflow"))?;
            set_fields(owner, key, &[(args[2], new.to_string().as_bytes())], Lasting::Kept)?;
            out.int(new);
        }
        Command::Hincrbyfloat => {
            let text = float_sum(owner, args)?;
            set_fields(owner, key, &[(args[2], text.as_bytes())], Lasting::Kept)?;
            out.bytes(text.as_bytes());
        }
        Command::Hscan => picks::scan(owner, Kind::Hash, args, out)?,
        _ => hash_expiry::run(owner, command, args, out)?,
    }
    Ok(())
}

/// Commands that a lock-free reader answers too.
pub fn read<V: View, S: Sink>(view: &mut V, command: Command, args: &Args, out: &mut S) -> Result<(), Fail> {
    let fields = &args[2..];
    match command {
        Command::Hexists => {
            let small = |compact: Option<crate::compact::Compact>| compact.is_some_and(|hash| hash.field(fields[0]).is_some());
            let there = look_for(view, args[1], Kind::Hash, fields, small, |found| found[0].is_some())?;
            out.flag(there);
        }
        Command::Hstrlen => {
            let small =
                |compact: Option<crate::compact::Compact>| compact.and_then(|hash| hash.field(fields[0])).map_or(0, <[u8]>::len);
            let length = look_for(view, args[1], Kind::Hash, fields, small, |found| {
                found[0].as_ref().map_or(0, Vec::len)
            })?;
            out.int(length as i64);
        }
        Command::Hget | Command::Hmget => {
            let values = look_for(
                view,
                args[1],
                Kind::Hash,
                fields,
                |compact| {
                    let value = |name: &&[u8]| compact.and_then(|hash| hash.field(name)).map(<[u8]>::to_vec);
                    fields.iter().map(value).collect::<Vec<_>>()
                },
                <[Option<Vec<u8>>]>::to_vec,
            )?;
            if command == Command::Hmget {
                out.array(values.len());
            }
            values.iter().for_each(|value| write_value(value.as_deref(), out));
        }
        Command::Hlen => match if_small(view, args[1], Kind::Hash, |compact| compact.map_or(0, |hash| hash.count))? {
            Some(length) => out.int(length as i64),
            None => {
                let (owner, large) = large_of(view, args[1], Kind::Hash)?;
                out.int(owner.length(&large) as i64);
            }
        },
        Command::Hgetall | Command::Hkeys | Command::Hvals => {
            let (names, values) = (command != Command::Hvals, command != Command::Hkeys);
            let each = names as usize + values as usize;
            let small = if_small(view, args[1], Kind::Hash, |compact| {
                let pairs: Vec<Pair> = compact.iter().flat_map(|hash| hash.pairs()).collect();
                out.array(pairs.len() * each);
                pairs.into_iter().for_each(|pair| write_pair(pair, names, values, out));
            })?;
            if small.is_none() {
                let (owner, large) = large_of(view, args[1], Kind::Hash)?;
                let items = live_items(owner, &large);
                out.array(items.len() * each);
                for item in items {
                    write_pair((owner.item_name(item), owner.item_value(item)), names, values, out);
                }
            }
        }
        Command::Hrandfield => picks::random_fields(view, args, out)?,
        other => unreachable!("{other:?} is flagged LOCAL and has no reader"),
    }
    Ok(())
}

pub(super) fn write_value(value: Option<&[u8]>, out: &mut impl Sink) {
    match value {
        Some(value) => out.bytes(value),
        None => out.nil(),
    }
}

pub(super) fn write_pair((name, value): Pair, names: bool, values: bool, out: &mut impl Sink) {
    if names {
        out.bytes(name);
    }
    if values {
        out.bytes(value);
    }
}

pub(super) fn pairs_of<'a>(args: &[&'a [u8]]) -> Vec<Pair<'a>> {
    args.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The parts of a large hash or set that have not expired.
pub(super) fn live_items(owner: &mut Owner, large: &Large) -> Vec<Item> {
    owner.order(large);
    let items = owner.known_order(large).iter();
    if large.kind == Kind::Hash {
        items.filter(|&item| owner.item_lives(item)).collect()
    } else {
        items.collect()
    }
}

/// A field's value.
fn field_of(owner: &mut Owner, key: &[u8], name: &[u8]) -> Result<Option<Vec<u8>>, Fail> {
    Ok(match owner.open(key, Kind::Hash)? {
        Opened::Missing => None,
        Opened::Compact(entry) => owner.small(&entry).field(name).map(<[u8]>::to_vec),
        Opened::Large(large) => owner.part(&large, name).map(|entry| owner.value(&entry).to_vec()),
    })
}

fn float_sum(owner: &mut Owner, args: &Args) -> Result<String, Fail> {
    let is_number = |text: &[u8]| Decimal::parse(text).is_some() || float_of(text).is_some();
    if !is_number(args[3]) {
        return Err(Fail::err("value is not a valid float"));
    }
    if float_of(args[3]).is_some_and(f64::is_infinite) {
        return Err(Fail::err("value is NaN or Infinity"));
    }
    let old = field_of(owner, args[1], args[2])?.unwrap_or_else(|| b"0".to_vec());
    if !is_number(&old) {
        return Err(Fail::err("hash value is not a float"));
    }
    sum_text(&old, args[3])
}

// ---------------------------------------------------------------- changes

/// Set fields; how many are new.
pub(super) fn set_fields(owner: &mut Owner, key: &[u8], pairs: &[Pair], lasting: Lasting) -> Result<usize, Fail> {
    let limit = owner.compact_limits.hash;
    let fits = !matches!(lasting, Lasting::Until(_))
        && pairs
            .iter()
            .all(|(field, value)| field.len() <= limit.element_bytes && value.len() <= limit.element_bytes);
    match owner.open(key, Kind::Hash)? {
        Opened::Large(large) => set_parts(owner, key, &large, pairs, lasting),
        Opened::Compact(entry) => match fits.then(|| rebuild(owner, &entry, pairs, limit.elements)).flatten() {
            Some((value, new)) => {
                let deadline = owner.deadline(&entry);
                owner.put(key, Kind::Hash, &value, deadline)?;
                Ok(new)
            }
            None => owner.within(|owner| {
                let large = owner.enlarge(key, Kind::Hash, &entry)?;
                set_parts(owner, key, &large, pairs, lasting)
            }),
        },
        Opened::Missing => {
            let deadline = if let Lasting::Until(deadline) = lasting { deadline } else { 0 };
            let elements = elements_of(pairs, deadline);
            owner.store(key, Kind::Hash, &elements, 0)?;
            Ok(elements.len())
        }
    }
}

/// The fields, each once: of one that is named twice the last value stands, in the place of the first.
fn elements_of(pairs: &[Pair], deadline: u64) -> Vec<Element> {
    let mut places = std::collections::HashMap::with_capacity(pairs.len());
    let mut elements: Vec<Element> = Vec::with_capacity(pairs.len());
    for (field, value) in pairs {
        let place = *places.entry(field).or_insert(elements.len());
        if place == elements.len() {
            elements.push(Element {
                name: field.to_vec(),
                value: value.to_vec(),
                deadline,
            });
        } else {
            elements[place].value = value.to_vec();
        }
    }
    elements
}

/// A compact hash with these fields set; None if they are too many.
fn rebuild(owner: &Owner, entry: &Entry, pairs: &[Pair], most: usize) -> Option<(Vec<u8>, usize)> {
    let old = owner.small(entry);
    let room = owner.value(entry).len()
        + pairs
            .iter()
            .map(|(field, value)| field.len() + value.len() + 4)
            .sum::<usize>();
    let mut builder = Builder::with_room(room);
    let last = |name: &[u8]| pairs.iter().rev().find(|(field, _)| *field == name).map(|(_, value)| *value);
    for (field, value) in old.pairs() {
        builder.pair(field, last(field).unwrap_or(value));
    }
    let before = builder.count();
    for (index, (field, _)) in pairs.iter().enumerate() {
        if old.field(field).is_none() && pairs[..index].iter().all(|(other, _)| other != field) {
            builder.pair(field, last(field).expect("it is there"));
        }
        if builder.count() > most {
            return None;
        }
    }
    let new = builder.count() - before;
    Some((builder.finish(), new))
}

fn set_parts(owner: &mut Owner, key: &[u8], large: &Large, pairs: &[Pair], lasting: Lasting) -> Result<usize, Fail> {
    owner.several(pairs.len(), |owner| {
        let mut new = 0;
        for (field, value) in pairs {
            let old = owner.part(large, field);
            new += old.is_none() as usize;
            let deadline = match lasting {
                Lasting::Forever => 0,
                Lasting::Kept => old.map_or(0, |entry| owner.deadline(&entry)),
                Lasting::Until(deadline) => deadline,
            };
            owner.put_part(large, field, value, deadline)?;
        }
        owner.put_root(key, large)?;
        Ok(new)
    })
}

/// Delete fields; how many there were. Without a field the key goes.
pub(super) fn delete_fields(owner: &mut Owner, key: &[u8], fields: &[&[u8]]) -> Result<usize, Fail> {
    match owner.open(key, Kind::Hash)? {
        Opened::Missing => Ok(0),
        Opened::Compact(entry) => {
            let old = owner.small(&entry);
            let mut builder = Builder::with_room(owner.value(&entry).len());
            for (field, value) in old.pairs() {
                if !fields.contains(&field) {
                    builder.pair(field, value);
                }
            }
            let gone = old.count - builder.count();
            if builder.count() == 0 {
                owner.remove(key);
            } else if gone > 0 {
                let deadline = owner.deadline(&entry);
                owner.put(key, Kind::Hash, &builder.finish(), deadline)?;
            }
            Ok(gone)
        }
        Opened::Large(large) => remove_parts(owner, key, &large, fields),
    }
}

/// Take parts of a large hash or set away; how many there were. Without any the key goes.
pub(super) fn remove_parts<N: AsRef<[u8]>>(owner: &mut Owner, key: &[u8], large: &Large, names: &[N]) -> Result<usize, Fail> {
    owner.several(names.len(), |owner| {
        owner.order(large);
        let gone = names.iter().filter(|name| owner.remove_part(large, name.as_ref())).count();
        if owner.length(large) == 0 {
            owner.remove(key);
        } else if gone > 0 {
            owner.put_root(key, large)?;
        }
        Ok(gone)
    })
}
