//! Union, intersection and difference of sorted sets, and of plain sets, whose members count as having score 1.

use super::events::event;
use super::number::int_arg;
use super::reply::Sink;
use super::scores::score_arg;
use super::table::Command;
use super::zset_changes::{element_of, sort};
use super::zset_view::{scored, write_one, Scored};
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::large::{score_of, Element, Large, Opened};
use crate::owner::{Entry, Owner};
use std::collections::HashMap;

#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            // Infinities of both signs cancel each other out.
            Aggregate::Sum => finite_or_zero(one + other),
            Aggregate::Min => one.min(other),
            Aggregate::Max => one.max(other),
        }
    }
}

fn finite_or_zero(value: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value
    }
}

/// What the options say.
struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    scores: bool,
    /// Of ZINTERCARD.
    limit: usize,
}

impl Options {
    fn parse(args: &[&[u8]], keys: usize, operation: Operation, stores: bool, counts: bool) -> Result<Options, Fail> {
        let mut options = Options {
            weights: vec![1.0; keys],
            aggregate: Aggregate::Sum,
            scores: false,
            limit: usize::MAX,
        };
        let combines = operation != Operation::Difference && !counts;
        let mut rest = args;
        while let Some((word, after)) = rest.split_first() {
            rest = match (word.to_ascii_lowercase().as_slice(), after) {
                (b"weights", _) if combines && after.len() >= keys => {
                    for (weight, text) in options.weights.iter_mut().zip(after) {
                        *weight = score_arg(text).map_err(|_| Fail::err("weight value is not a float"))?;
                    }
                    &after[keys..]
                }
                (b"aggregate", [what, after @ ..]) if combines => {
                    options.aggregate = match what.to_ascii_lowercase().as_slice() {
                        b"sum" => Aggregate::Sum,
                        b"min" => Aggregate::Min,
                        b"max" => Aggregate::Max,
                        _ => return Err(Fail::syntax()),
                    };
                    after
                }
                (b"withscores", _) if !stores && !counts => {
                    options.scores = true;
                    after
                }
                (b"limit", [limit, after @ ..]) if counts => {
                    let limit = int_arg(limit).ok().and_then(|limit| usize::try_from(limit).ok());
                    let limit = limit.ok_or_else(|| Fail::err("LIMIT can't be negative"))?;
                    options.limit = if limit == 0 { usize::MAX } else { limit };
                    after
                }
                _ => return Err(Fail::syntax()),
            };
        }
        Ok(options)
    }
}

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let (operation, name, stores) = match command {
        Command::Zunion => (Operation::Union, "zunion", false),
        Command::Zunionstore => (Operation::Union, "zunionstore", true),
        Command::Zinter => (Operation::Intersection, "zinter", false),
        Command::Zinterstore => (Operation::Intersection, "zinterstore", true),
        Command::Zintercard => (Operation::Intersection, "zintercard", false),
        Command::Zdiff => (Operation::Difference, "zdiff", false),
        Command::Zdiffstore => (Operation::Difference, "zdiffstore", true),
        other => unreachable!("{other:?} is no zset command"),
    };
    let counts = command == Command::Zintercard;
    let at = 1 + stores as usize;
    let count = int_arg(args[at])?;
    if count < 1 {
        return Err(Fail::err(format!("at least 1 input key is needed for '{name}' command")));
    }
    let rest = &args[at + 1..];
    let count = usize::try_from(count)
        .ok()
        .filter(|&count| count <= rest.len())
        .ok_or_else(Fail::syntax)?;
    let (keys, rest) = rest.split_at(count);
    let sources = open_all(owner, keys)?;
    let options = Options::parse(rest, count, operation, stores, counts)?;
    let mut all = match operation {
        Operation::Union => union(owner, &sources, &options),
        Operation::Intersection => intersection(owner, &sources, &options),
        Operation::Difference => difference(owner, &sources),
    };
    if counts {
        out.int(all.len() as i64);
        return Ok(());
    }
    sort(&mut all);
    if !stores {
        out.array(all.len() * (1 + options.scores as usize));
        all.into_iter().for_each(|one| write_one(one, options.scores, out));
        return Ok(());
    }
    let elements: Vec<Element> = all.into_iter().map(element_of).collect();
    if elements.is_empty() {
        owner.event = event("del");
    }
    owner.store(args[1], Kind::Zset, &elements, 0)?;
    out.int(elements.len() as i64);
    Ok(())
}

enum Source {
    Missing,
    Compact(Kind, Entry),
    Large(Large),
}

/// The sources, all looked at before any is read: what has expired goes now, and no entry moves later.
fn open_all(owner: &mut Owner, keys: &[&[u8]]) -> Result<Vec<Source>, Fail> {
    for key in keys {
        owner.lookup(key);
    }
    let mut sources = Vec::with_capacity(keys.len());
    for key in keys {
        let kind = match owner.lookup(key).map(|entry| Kind::from_code(entry.meta.kind_code())) {
            None => {
                sources.push(Source::Missing);
                continue;
            }
            Some(Some(kind)) if matches!(kind, Kind::Zset | Kind::Set) => kind,
            Some(_) => return Err(Fail::wrong_type()),
        };
        sources.push(match owner.open(key, kind)? {
            Opened::Missing => Source::Missing,
            Opened::Compact(entry) => Source::Compact(kind, entry),
            Opened::Large(large) => {
                owner.order(&large);
                Source::Large(large)
            }
        });
    }
    Ok(sources)
}

impl Source {
    fn len(&self, owner: &Owner) -> usize {
        match self {
            Source::Missing => 0,
            Source::Compact(_, entry) => owner.small(entry).count,
            Source::Large(large) => owner.known_order(large).len(),
        }
    }

    fn each<'a>(&self, owner: &'a Owner) -> Box<dyn Iterator<Item = Scored<'a>> + 'a> {
        match *self {
            Source::Missing => Box::new(std::iter::empty()),
            Source::Compact(Kind::Set, entry) => Box::new(owner.small(&entry).strings().map(|member| (1.0, member))),
            Source::Compact(_, entry) => Box::new(owner.small(&entry).scored()),
            Source::Large(large) => {
                let items = owner.known_order(&large).iter();
                Box::new(items.map(move |item| match large.kind {
                    Kind::Set => (1.0, owner.item_name(item)),
                    _ => scored(owner, item),
                }))
            }
        }
    }

    /// For looking members up.
    fn table<'a>(&self, owner: &'a Owner) -> Scores<'a> {
        match self {
            Source::Large(large) => Scores::Parts(*large),
            _ => Scores::Known(self.each(owner).map(|(score, member)| (member, score)).collect()),
        }
    }
}

enum Scores<'a> {
    Known(HashMap<&'a [u8], f64>),
    Parts(Large),
}

impl Scores<'_> {
    fn get(&self, owner: &Owner, member: &[u8]) -> Option<f64> {
        match self {
            Scores::Known(scores) => scores.get(member).copied(),
            Scores::Parts(large) => {
                let value = owner.part_value(large, member)?;
                Some(if large.kind == Kind::Set { 1.0 } else { score_of(value) })
            }
        }
    }
}

/// The sources with their weights, those of fewest members first, as Redis adds them up.
fn by_size<'s>(owner: &Owner, sources: &'s [Source], options: &Options) -> Vec<(&'s Source, f64)> {
    let mut sorted: Vec<_> = sources.iter().zip(options.weights.iter().copied()).collect();
    sorted.sort_by_key(|(source, _)| source.len(owner));
    sorted
}

fn union<'a>(owner: &'a Owner, sources: &[Source], options: &Options) -> Vec<Scored<'a>> {
    let mut sums: HashMap<&[u8], f64> = HashMap::new();
    for (source, weight) in by_size(owner, sources, options) {
        for (score, member) in source.each(owner) {
            let score = finite_or_zero(score * weight);
            sums.entry(member)
                .and_modify(|sum| *sum = options.aggregate.of(*sum, score))
                .or_insert(score);
        }
    }
    sums.into_iter().map(|(member, score)| (score, member)).collect()
}

fn intersection<'a>(owner: &'a Owner, sources: &[Source], options: &Options) -> Vec<Scored<'a>> {
    let sorted = by_size(owner, sources, options);
    let Some((&(first, weight), others)) = sorted.split_first() else {
        return Vec::new();
    };
    if first.len(owner) == 0 {
        return Vec::new();
    }
    let others: Vec<(Scores, f64)> = others.iter().map(|(source, weight)| (source.table(owner), *weight)).collect();
    let common = first.each(owner).filter_map(|(score, member)| {
        let mut sum = finite_or_zero(score * weight);
        for (scores, weight) in &others {
            // As in Redis a product that is no number counts as zero for the first alone; of the others it makes the sum zero.
            sum = options.aggregate.of(sum, scores.get(owner, member)? * weight);
        }
        Some((sum, member))
    });
    common.take(options.limit).collect()
}

/// The first's members that no other has.
fn difference<'a>(owner: &'a Owner, sources: &[Source]) -> Vec<Scored<'a>> {
    let mut left: HashMap<&[u8], f64> = sources[0].each(owner).map(|(score, member)| (member, score)).collect();
    for source in &sources[1..] {
        if left.is_empty() {
            break;
        }
        source.each(owner).for_each(|(_, member)| {
            left.remove(member);
        });
    }
    left.into_iter().map(|(member, score)| (score, member)).collect()
}
