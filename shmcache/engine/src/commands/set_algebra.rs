//! Intersection, union and difference of sets.

use super::events::event;
use super::number::parse_int;
use super::reply::Sink;
use super::sets::elements_of;
use super::table::Command;
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::collections::sort_of;
use crate::owner::large::Opened;
use crate::owner::Owner;
use std::collections::HashSet;

const DEL: u8 = event("del");

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    use Command::{Sdiff, Sdiffstore, Sinter, Sintercard, Sinterstore, Sunion, Sunionstore};
    if command == Sintercard {
        let (keys, limit) = card_args(args)?;
        let sets = open_all(owner, keys)?;
        let count = intersection(owner, &sets, limit).len();
        out.int(count as i64);
        return Ok(());
    }
    let stores = matches!(command, Sinterstore | Sunionstore | Sdiffstore);
    let sets = open_all(owner, &args[1 + stores as usize..])?;
    let members = match command {
        Sinter | Sinterstore => intersection(owner, &sets, usize::MAX),
        Sunion | Sunionstore => union(owner, &sets),
        Sdiff | Sdiffstore => difference(owner, &sets),
        other => unreachable!("{other:?} is no set command"),
    };
    if !stores {
        out.array(members.len());
        members.into_iter().for_each(|member| out.bytes(member));
        return Ok(());
    }
    let elements = elements_of(members.into_iter());
    if elements.is_empty() {
        owner.event = DEL;
    }
    owner.store(args[1], Kind::Set, &elements, 0)?;
    out.int(elements.len() as i64);
    Ok(())
}

/// Keys and limit of SINTERCARD numkeys key ... [LIMIT n].
fn card_args<'a, 'b>(args: &'b Args<'a>) -> Result<(&'b [&'a [u8]], usize), Fail> {
    let count = parse_int(args[1]).filter(|&count| count > 0);
    let count = count.ok_or_else(|| Fail::err("numkeys should be greater than 0"))?;
    if count > args.len() as i64 - 2 {
        return Err(Fail::err("Number of keys can't be greater than number of args"));
    }
    let (keys, rest) = args[2..].split_at(count as usize);
    let mut limit = 0;
    for option in rest.chunks(2) {
        match option {
            [word, number] if word.eq_ignore_ascii_case(b"limit") => {
                limit = parse_int(number)
                    .filter(|&limit| limit >= 0)
                    .ok_or_else(|| Fail::err("LIMIT can't be negative"))?;
            }
            _ => return Err(Fail::syntax()),
        }
    }
    Ok((keys, if limit == 0 { usize::MAX } else { limit as usize }))
}

/// The sets, all looked at before any is read: what has expired goes now, and no entry moves later.
fn open_all(owner: &mut Owner, keys: &[&[u8]]) -> Result<Vec<Opened>, Fail> {
    for key in keys {
        owner.lookup(key);
    }
    let mut sets = Vec::with_capacity(keys.len());
    for key in keys {
        let set = owner.open(key, Kind::Set)?;
        if let Opened::Large(large) = &set {
            owner.order(large);
        }
        sets.push(set);
    }
    Ok(sets)
}

fn size(owner: &Owner, set: &Opened) -> usize {
    match set {
        Opened::Missing => 0,
        Opened::Compact(entry) => owner.small(entry).count,
        Opened::Large(large) => owner.known_order(large).len(),
    }
}

fn has(owner: &Owner, set: &Opened, member: &[u8]) -> bool {
    match set {
        Opened::Missing => false,
        Opened::Compact(entry) => owner.small(entry).has_member(member),
        Opened::Large(large) => {
            let sort = sort_of(Kind::SetPart as u8, member, &[]);
            owner.find_in_order(large, sort, member).1
        }
    }
}

fn members<'a>(owner: &'a Owner, set: &'a Opened) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
    match set {
        Opened::Missing => Box::new(std::iter::empty()),
        Opened::Compact(entry) => Box::new(owner.small(entry).strings()),
        Opened::Large(large) => {
            let items = owner.known_order(large).iter();
            Box::new(items.map(|item| owner.item_name(item)))
        }
    }
}

/// The smallest's members that all others have, up to `limit`.
fn intersection<'a>(owner: &'a Owner, sets: &'a [Opened], limit: usize) -> Vec<&'a [u8]> {
    let mut by_size: Vec<&Opened> = sets.iter().collect();
    by_size.sort_by_key(|set| size(owner, set));
    let Some((smallest, others)) = by_size.split_first() else {
        return Vec::new();
    };
    members(owner, smallest)
        .filter(|member| others.iter().all(|set| has(owner, set, member)))
        .take(limit)
        .collect()
}

fn union<'a>(owner: &'a Owner, sets: &'a [Opened]) -> Vec<&'a [u8]> {
    let mut seen = HashSet::new();
    sets.iter()
        .flat_map(|set| members(owner, set))
        .filter(|member| seen.insert(*member))
        .collect()
}

/// The first's members that no other has.
fn difference<'a>(owner: &'a Owner, sets: &'a [Opened]) -> Vec<&'a [u8]> {
    members(owner, &sets[0])
        .filter(|member| !sets[1..].iter().any(|set| has(owner, set, member)))
        .collect()
}
