//! Commands on one set. What concerns several is in `set_algebra`, random members and SSCAN in `picks`.

use super::events::event;
use super::hashes::remove_parts;
use super::number::parse_int;
use super::parts::{if_small, large_of, look_for};
use super::picks::{self, different, different_items, Dice};
use super::read::View;
use super::reply::Sink;
use super::table::Command;
use super::{set_algebra, Args, Fail};
use crate::compact::{Builder, Compact};
use crate::layout::Kind;
use crate::owner::large::{Element, Large, Opened};
use crate::owner::{Entry, Owner};
use std::collections::HashSet;

const SADD: u8 = event("sadd");
const SREM: u8 = event("srem");

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Sadd => {
            let new = add(owner, args[1], &args[2..])?;
            out.int(new as i64);
        }
        Command::Srem => {
            let gone = remove(owner, args[1], &args[2..])?;
            out.int(gone as i64);
        }
        Command::Smove => {
            let moved = move_member(owner, args[1], args[2], args[3])?;
            out.flag(moved);
        }
        Command::Spop if args.len() == 2 => match pop(owner, args[1], 1)?.first() {
            Some(member) => out.bytes(member),
            None => out.nil(),
        },
        Command::Spop if args.len() == 3 => {
            let count = parse_int(args[2]).filter(|&count| count >= 0);
            let count = count.ok_or_else(|| Fail::err("value is out of range, must be positive"))?;
            let members = pop(owner, args[1], count as usize)?;
            out.array(members.len());
            members.iter().for_each(|member| out.bytes(member));
        }
        Command::Spop => return Err(Fail::syntax()),
        Command::Sscan => picks::scan(owner, Kind::Set, args, out)?,
        _ => set_algebra::run(owner, command, args, out)?,
    }
    Ok(())
}

/// Commands that a lock-free reader answers too.
pub fn read<V: View, S: Sink>(view: &mut V, command: Command, args: &Args, out: &mut S) -> Result<(), Fail> {
    let members = &args[2..];
    match command {
        Command::Sismember => {
            let small = |compact: Option<Compact>| compact.is_some_and(|set| set.has_member(members[0]));
            let there = look_for(view, args[1], Kind::Set, members, small, |found| found[0].is_some())?;
            out.flag(there);
        }
        Command::Smismember => {
            let small = |compact: Option<Compact>| {
                let there = |member: &&[u8]| compact.is_some_and(|set| set.has_member(member));
                members.iter().map(there).collect::<Vec<bool>>()
            };
            let there = look_for(view, args[1], Kind::Set, members, small, |found| {
                found.iter().map(Option::is_some).collect()
            })?;
            out.array(there.len());
            there.into_iter().for_each(|there| out.flag(there));
        }
        Command::Scard => match if_small(view, args[1], Kind::Set, |compact| compact.map_or(0, |set| set.count))? {
            Some(count) => out.int(count as i64),
            None => {
                let (owner, large) = large_of(view, args[1], Kind::Set)?;
                out.int(owner.length(&large) as i64);
            }
        },
        Command::Smembers => {
            let small = if_small(view, args[1], Kind::Set, |compact| {
                let members: Vec<&[u8]> = compact.iter().flat_map(|set| set.strings()).collect();
                out.array(members.len());
                members.into_iter().for_each(|member| out.bytes(member));
            })?;
            if small.is_none() {
                let (owner, large) = large_of(view, args[1], Kind::Set)?;
                out.array(owner.length(&large));
                for item in owner.known_order(&large).iter() {
                    out.bytes(owner.item_name(item));
                }
            }
        }
        Command::Srandmember => picks::random_members(view, args, out)?,
        other => unreachable!("{other:?} is flagged LOCAL and has no reader"),
    }
    Ok(())
}

/// A set of these members, each once.
pub(super) fn elements_of<'a>(members: impl Iterator<Item = &'a [u8]>) -> Vec<Element> {
    let mut seen = HashSet::new();
    let element = |member: &[u8]| Element {
        name: member.to_vec(),
        ..Element::default()
    };
    members.filter(|member| seen.insert(*member)).map(element).collect()
}

/// Add members; how many are new.
fn add(owner: &mut Owner, key: &[u8], members: &[&[u8]]) -> Result<usize, Fail> {
    let limit = owner.compact_limits.set;
    let fits = members.iter().all(|member| member.len() <= limit.element_bytes);
    match owner.open(key, Kind::Set)? {
        Opened::Large(large) => add_parts(owner, key, &large, members),
        Opened::Compact(entry) => match extended(owner, &entry, members, limit.elements, fits) {
            Extended::Same => Ok(0),
            Extended::Small(value, new) => {
                let deadline = owner.deadline(&entry);
                owner.put(key, Kind::Set, &value, deadline)?;
                Ok(new)
            }
            Extended::TooLarge => owner.within(|owner| {
                let large = owner.enlarge(key, Kind::Set, &entry)?;
                add_parts(owner, key, &large, members)
            }),
        },
        Opened::Missing => {
            let elements = elements_of(members.iter().copied());
            owner.store(key, Kind::Set, &elements, 0)?;
            Ok(elements.len())
        }
    }
}

/// What a compact set is with some members more.
enum Extended {
    Same,
    Small(Vec<u8>, usize),
    TooLarge,
}

fn extended(owner: &Owner, entry: &Entry, members: &[&[u8]], most: usize, fits: bool) -> Extended {
    let old = owner.small(entry);
    let mut new: Vec<&[u8]> = Vec::new();
    for member in members {
        if !old.has_member(member) && !new.contains(member) {
            new.push(member);
        }
        if old.count + new.len() > most && !new.is_empty() {
            return Extended::TooLarge;
        }
    }
    if new.is_empty() {
        return Extended::Same;
    }
    if !fits {
        return Extended::TooLarge;
    }
    let room = owner.value(entry).len() + new.iter().map(|member| member.len() + 2).sum::<usize>();
    let mut builder = Builder::with_room(room);
    old.strings().for_each(|member| builder.string(member));
    new.iter().for_each(|member| builder.string(member));
    Extended::Small(builder.finish(), new.len())
}

fn add_parts(owner: &mut Owner, key: &[u8], large: &Large, members: &[&[u8]]) -> Result<usize, Fail> {
    owner.several(members.len(), |owner| {
        let mut new = 0;
        for member in members {
            if owner.part(large, member).is_none() {
                owner.put_part(large, member, &[], 0)?;
                new += 1;
            }
        }
        if new > 0 {
            owner.put_root(key, large)?;
        }
        Ok(new)
    })
}

/// Remove members; how many there were. Without a member the key goes.
fn remove(owner: &mut Owner, key: &[u8], members: &[&[u8]]) -> Result<usize, Fail> {
    match owner.open(key, Kind::Set)? {
        Opened::Missing => Ok(0),
        Opened::Compact(entry) => keep(owner, key, &entry, |member, _| !members.contains(&member)),
        Opened::Large(large) => remove_parts(owner, key, &large, members),
    }
}

/// Keep some of a compact set's members, by name and position; how many are gone.
fn keep(owner: &mut Owner, key: &[u8], entry: &Entry, mut keeps: impl FnMut(&[u8], usize) -> bool) -> Result<usize, Fail> {
    let old = owner.small(entry);
    let mut builder = Builder::with_room(owner.value(entry).len());
    for (place, member) in old.strings().enumerate() {
        if keeps(member, place) {
            builder.string(member);
        }
    }
    let gone = old.count - builder.count();
    if builder.count() == 0 {
        owner.remove(key);
    } else if gone > 0 {
        let deadline = owner.deadline(entry);
        owner.put(key, Kind::Set, &builder.finish(), deadline)?;
    }
    Ok(gone)
}

fn has(owner: &mut Owner, key: &[u8], member: &[u8]) -> Result<bool, Fail> {
    Ok(match owner.open(key, Kind::Set)? {
        Opened::Missing => false,
        Opened::Compact(entry) => owner.small(&entry).has_member(member),
        Opened::Large(large) => owner.part(&large, member).is_some(),
    })
}

fn move_member(owner: &mut Owner, from: &[u8], to: &[u8], member: &[u8]) -> Result<bool, Fail> {
    if owner.lookup(from).is_none() {
        return Ok(false);
    }
    owner.open(to, Kind::Set)?;
    if !has(owner, from, member)? {
        return Ok(false);
    }
    if from != to {
        owner.grouped(|owner| {
            owner.event = SREM;
            remove(owner, from, &[member])?;
            owner.event = SADD;
            add(owner, to, &[member]).map(|_| ())
        })?;
    }
    Ok(true)
}

/// Take random members away.
fn pop(owner: &mut Owner, key: &[u8], count: usize) -> Result<Vec<Vec<u8>>, Fail> {
    let mut dice = Dice(owner.random());
    match owner.open(key, Kind::Set)? {
        Opened::Missing => Ok(Vec::new()),
        Opened::Compact(entry) => {
            let chosen: HashSet<usize> = different(count, owner.small(&entry).count, &mut dice).into_iter().collect();
            let mut members = Vec::with_capacity(chosen.len());
            keep(owner, key, &entry, |member, place| {
                let goes = chosen.contains(&place);
                if goes {
                    members.push(member.to_vec());
                }
                !goes
            })?;
            Ok(members)
        }
        Opened::Large(large) => {
            let items = different_items(owner.order(&large), count, &mut dice);
            let members: Vec<Vec<u8>> = items.into_iter().map(|item| owner.item_name(item).to_vec()).collect();
            if members.len() == owner.length(&large) {
                // Its parts are freed in slices, between commands.
                owner.remove(key);
            } else {
                remove_parts(owner, key, &large, &members)?;
            }
            Ok(members)
        }
    }
}
