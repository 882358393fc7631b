//! Commands on hashes.

use super::parts::look_for;
use super::read::View;
use super::reply::Sink;
use super::table::Command;
use super::{Args, Fail};
use crate::compact::Builder;
use crate::layout::Kind;
use crate::owner::large::{Large, Opened};
use crate::owner::{Entry, Owner};

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Hset => {
            if args.len() % 2 != 0 {
                return Err(Fail::err("wrong number of arguments for 'hset' command"));
            }
            let pairs: Vec<(&[u8], &[u8])> = args[2..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            let new = set_fields(owner, args[1], &pairs)?;
            out.int(new as i64);
        }
        Command::Hdel => {
            let gone = delete_fields(owner, args[1], &args[2..])?;
            out.int(gone as i64);
        }
        Command::Hlen => {
            let length = match owner.open(args[1], Kind::Hash)? {
                Opened::Missing => 0,
                Opened::Compact(entry) => owner.small(&entry).count,
                Opened::Large(large) => owner.length(&large),
            };
            out.int(length as i64);
        }
        Command::Hgetall => {
            let elements = match owner.lookup(args[1]) {
                None => Vec::new(),
                Some(entry) if entry.meta.kind_code() != Kind::Hash as u8 => return Err(Fail::wrong_type()),
                Some(entry) => owner.elements(args[1], Kind::Hash, entry),
            };
            out.array(elements.len() * 2);
            for element in &elements {
                out.bytes(&element.name);
                out.bytes(&element.value);
            }
        }
        other => unreachable!("{other:?} is no hash command"),
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
            for value in &values {
                match value {
                    Some(value) => out.bytes(value),
                    None => out.nil(),
                }
            }
        }
        other => unreachable!("{other:?} is flagged LOCAL and has no reader"),
    }
    Ok(())
}

/// Set fields; how many are new.
pub(super) fn set_fields(owner: &mut Owner, key: &[u8], pairs: &[(&[u8], &[u8])]) -> Result<usize, Fail> {
    let limit = owner.compact_limits.hash;
    let fits = pairs
        .iter()
        .all(|(field, value)| field.len() <= limit.element_bytes && value.len() <= limit.element_bytes);
    match owner.open(key, Kind::Hash)? {
        Opened::Large(large) => set_parts(owner, key, &large, pairs),
        Opened::Compact(entry) if fits => match rebuild(owner, &entry, pairs, limit.elements) {
            Some((value, new)) => {
                let deadline = owner.deadline(&entry);
                owner.put(key, Kind::Hash, &value, deadline)?;
                Ok(new)
            }
            None => enlarge_and_set(owner, key, &entry, pairs),
        },
        Opened::Compact(entry) => enlarge_and_set(owner, key, &entry, pairs),
        Opened::Missing => {
            let mut builder = Builder::with_room(pairs.iter().map(|(field, value)| field.len() + value.len() + 4).sum());
            for (index, (field, _)) in pairs.iter().enumerate() {
                // Of a field that is named twice the last value stands, in the place of the first.
                if pairs[..index].iter().all(|(other, _)| other != field) {
                    let (_, value) = pairs.iter().rev().find(|(other, _)| other == field).expect("it is there");
                    builder.pair(field, value);
                }
                if !fits || builder.count() > limit.elements {
                    let large = owner.new_large(key, Kind::Hash, 0);
                    return set_parts(owner, key, &large, pairs);
                }
            }
            let new = builder.count();
            owner.put(key, Kind::Hash, &builder.finish(), 0)?;
            Ok(new)
        }
    }
}

/// A compact hash with these fields set; None if they are too many.
fn rebuild(owner: &Owner, entry: &Entry, pairs: &[(&[u8], &[u8])], most: usize) -> Option<(Vec<u8>, usize)> {
    let old = owner.small(entry);
    let room = owner.value(entry).len() + pairs.iter().map(|(field, value)| field.len() + value.len() + 4).sum::<usize>();
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

fn enlarge_and_set(owner: &mut Owner, key: &[u8], entry: &Entry, pairs: &[(&[u8], &[u8])]) -> Result<usize, Fail> {
    let entry = *entry;
    let large = owner.enlarge(key, Kind::Hash, &entry)?;
    set_parts(owner, key, &large, pairs)
}

fn set_parts(owner: &mut Owner, key: &[u8], large: &Large, pairs: &[(&[u8], &[u8])]) -> Result<usize, Fail> {
    owner.several(pairs.len(), |owner| {
        let mut new = 0;
        for (field, value) in pairs {
            new += owner.part(large, field).is_none() as usize;
            owner.put_part(large, field, value, 0)?;
        }
        owner.put_root(key, large)?;
        Ok(new)
    })
}

fn delete_fields(owner: &mut Owner, key: &[u8], fields: &[&[u8]]) -> Result<usize, Fail> {
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
        Opened::Large(large) => owner.several(fields.len(), |owner| {
            owner.order(&large);
            let gone = fields.iter().filter(|field| owner.remove_part(&large, field)).count();
            if owner.length(&large) == 0 {
                owner.remove(key);
            } else if gone > 0 {
                owner.put_root(key, &large)?;
            }
            Ok(gone)
        }),
    }
}
