//! Some elements of a hash or a set: random ones, and the steps of HSCAN and SSCAN.
//!
//! The parts of a large one are in the order of their names' hashes, and a cursor is a place in that order, so that what is there from the first
//! step to the last is given once or more, whatever comes and goes meanwhile. A compact one is given at once.

use super::glob;
use super::hashes::{live_items, write_pair, Pair};
use super::lists::range_arg;
use super::number::int_arg;
use super::parts::{if_small, large_of};
use super::read::View;
use super::reply::Sink;
use super::scan::{cursor_arg, MAX_COUNT};
use super::{Args, Fail};
use crate::compact::Compact;
use crate::layout::Kind;
use crate::owner::large::{Large, Opened};
use crate::owner::order::{Item, Order};
use crate::owner::Owner;
use std::collections::HashSet;

/// Elements that a negative count may ask for: they are more than there are, so nothing else bounds the answer.
const REPEATED_MAX: i64 = 1 << 20;
/// Times that a random field may have expired before all are looked at.
const EXPIRED_TRIES: usize = 20;

/// Random numbers (Sebastiano Vigna's SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() as u128 * end as u128) >> 64) as usize
    }
}

/// `count` different numbers below `total` (Robert Floyd's sampling); all, in order, if they are no more.
pub fn different(count: usize, total: usize, dice: &mut Dice) -> Vec<usize> {
    if count >= total {
        return (0..total).collect();
    }
    let mut seen = HashSet::with_capacity(count);
    let mut numbers = Vec::with_capacity(count);
    for end in total - count..total {
        let any = dice.below(end + 1);
        let number = if seen.insert(any) { any } else { end };
        seen.insert(number);
        numbers.push(number);
    }
    numbers
}

/// `count` different items of an order; all if they are no more.
pub fn different_items(order: &Order, count: usize, dice: &mut Dice) -> Vec<Item> {
    let total = order.len();
    if count >= total {
        return order.iter().collect();
    }
    if count > total / 4 {
        // Donald Knuth's selection sampling: one pass, each is taken with the chance that is left.
        let mut items = Vec::with_capacity(count);
        for (passed, item) in order.iter().enumerate() {
            if dice.below(total - passed) < count - items.len() {
                items.push(item);
            }
        }
        return items;
    }
    let mut seen = HashSet::with_capacity(count);
    let mut items = Vec::with_capacity(count);
    while items.len() < count {
        match order.random(|end| dice.below(end)) {
            Some(item) if seen.insert(item.at) => items.push(item),
            Some(_) => {}
            None => break,
        }
    }
    items
}

#[derive(Clone, Copy)]
pub(super) enum Wanted {
    One,
    Different(usize),
    /// The same may come again.
    Any(usize),
}

impl Wanted {
    /// Of `HRANDFIELD key [count [option]]` and its like; also whether the option was given.
    pub(super) fn with_option(args: &Args, option: &[u8]) -> Result<(Wanted, bool), Fail> {
        if args.len() <= 2 {
            return Ok((Wanted::One, false));
        }
        let given = args.len() == 4;
        let count = range_arg(args[2], -i64::MAX, None)?;
        if args.len() > 4 || (given && !args[3].eq_ignore_ascii_case(option)) {
            return Err(Fail::syntax());
        }
        if given && count.unsigned_abs() > i64::MAX as u64 / 2 {
            return Err(Fail::err("value is out of range"));
        }
        Ok((Wanted::of(count)?, given))
    }

    pub(super) fn of(count: i64) -> Result<Wanted, Fail> {
        match count {
            0.. => Ok(Wanted::Different(count as usize)),
            _ if count < -REPEATED_MAX => Err(Fail::new(
                "LIMIT",
                format!("at most {REPEATED_MAX} random elements with repetitions"),
            )),
            _ => Ok(Wanted::Any(count.unsigned_abs() as usize)),
        }
    }
}

/// HRANDFIELD.
pub fn random_fields<V: View, S: Sink>(view: &mut V, args: &Args, out: &mut S) -> Result<(), Fail> {
    let (wanted, values) = Wanted::with_option(args, b"withvalues")?;
    random(view, Kind::Hash, args[1], wanted, values, out)
}

/// SRANDMEMBER.
pub fn random_members<V: View, S: Sink>(view: &mut V, args: &Args, out: &mut S) -> Result<(), Fail> {
    let wanted = match args.len() {
        2 => Wanted::One,
        3 => Wanted::of(range_arg(args[2], -i64::MAX, None)?)?,
        _ => return Err(Fail::syntax()),
    };
    random(view, Kind::Set, args[1], wanted, false, out)
}

fn pairs_in<'a>(kind: Kind, compact: Option<Compact<'a>>) -> Vec<Pair<'a>> {
    match (kind, compact) {
        (_, None) => Vec::new(),
        (Kind::Hash, Some(compact)) => compact.pairs().collect(),
        (_, Some(compact)) => compact.strings().map(|member| (member, &[][..])).collect(),
    }
}

fn random<V: View, S: Sink>(view: &mut V, kind: Kind, key: &[u8], wanted: Wanted, values: bool, out: &mut S) -> Result<(), Fail> {
    let mut dice = Dice(view.draw());
    let each = 1 + values as usize;
    let small = if_small(view, key, kind, |compact| {
        let pairs = pairs_in(kind, compact);
        let total = pairs.len();
        let numbers = match wanted {
            Wanted::One if total == 0 => return out.nil(),
            Wanted::One => return out.bytes(pairs[dice.below(total)].0),
            Wanted::Different(count) => different(count, total, &mut dice),
            Wanted::Any(_) if total == 0 => Vec::new(),
            Wanted::Any(count) => (0..count).map(|_| dice.below(total)).collect(),
        };
        out.array(numbers.len() * each);
        numbers
            .into_iter()
            .for_each(|number| write_pair(pairs[number], true, values, out));
    })?;
    if small.is_some() {
        return Ok(());
    }
    let (owner, large) = large_of(view, key, kind)?;
    let items = random_items(owner, &large, wanted, &mut dice);
    match (wanted, items.first()) {
        (Wanted::One, None) => out.nil(),
        (Wanted::One, Some(&item)) => out.bytes(owner.item_name(item)),
        _ => {
            out.array(items.len() * each);
            for item in items {
                write_pair((owner.item_name(item), owner.item_value(item)), true, values, out);
            }
        }
    }
    Ok(())
}

fn random_items(owner: &mut Owner, large: &Large, wanted: Wanted, dice: &mut Dice) -> Vec<Item> {
    owner.order(large);
    let order = owner.known_order(large);
    let lives = |item: &Item| large.kind != Kind::Hash || owner.item_lives(*item);
    let (different, count) = match wanted {
        Wanted::One => (false, 1),
        Wanted::Different(count) => (true, count),
        Wanted::Any(count) => (false, count),
    };
    let mut items = Vec::new();
    if different {
        items = different_items(order, count, dice);
        if items.iter().all(lives) {
            return items;
        }
    } else {
        let mut tries = 0;
        while items.len() < count && tries < EXPIRED_TRIES {
            match order.random(|end| dice.below(end)) {
                Some(item) if lives(&item) => {
                    items.push(item);
                    tries = 0;
                }
                Some(_) => tries += 1,
                None => break,
            }
        }
        if items.len() == count {
            return items;
        }
    }
    // Some have expired and are not reclaimed yet: choose among the others.
    let living = live_items(owner, large);
    if different {
        self::different(count, living.len(), dice)
            .into_iter()
            .map(|number| living[number])
            .collect()
    } else if living.is_empty() {
        Vec::new()
    } else {
        (0..count).map(|_| living[dice.below(living.len())]).collect()
    }
}

// ---------------------------------------------------------------- HSCAN, SSCAN

pub(super) struct Options<'a> {
    pattern: Option<&'a [u8]>,
    pub(super) count: usize,
    values: bool,
}

impl<'a> Options<'a> {
    pub(super) fn parse(args: &[&'a [u8]], kind: Kind) -> Result<Options<'a>, Fail> {
        let mut options = Options {
            pattern: None,
            count: 10,
            values: kind == Kind::Hash,
        };
        let mut rest = args.iter();
        while let Some(word) = rest.next() {
            if word.eq_ignore_ascii_case(b"novalues") && kind == Kind::Hash {
                options.values = false;
                continue;
            }
            let value = *rest.next().ok_or_else(Fail::syntax)?;
            if word.eq_ignore_ascii_case(b"match") {
                options.pattern = Some(value);
            } else if word.eq_ignore_ascii_case(b"count") {
                let count = int_arg(value)?;
                if count < 1 {
                    return Err(Fail::syntax());
                }
                options.count = (count as u64).min(MAX_COUNT) as usize;
            } else {
                return Err(Fail::syntax());
            }
        }
        Ok(options)
    }

    pub(super) fn keeps(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// A cursor counts groups of names that share this many high bits of their hashes, from 1 on.
const CURSOR_SHIFT: u32 = 16;

/// HSCAN key cursor [MATCH pattern] [COUNT n] [NOVALUES], and SSCAN.
pub fn scan(owner: &mut Owner, kind: Kind, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let cursor = cursor_arg(args[2])?;
    let opened = owner.open(args[1], kind)?;
    if let Opened::Missing = opened {
        write_step(0, &[], false, out);
        return Ok(());
    }
    let options = Options::parse(&args[3..], kind)?;
    match opened {
        Opened::Missing => {}
        Opened::Compact(entry) => {
            let mut pairs = pairs_in(kind, Some(owner.small(&entry)));
            pairs.retain(|pair| options.keeps(pair.0));
            write_step(0, &pairs, options.values, out);
        }
        Opened::Large(large) => {
            let (next, items) = step(owner, &large, cursor, options.count);
            let mut pairs: Vec<Pair> = items
                .iter()
                .map(|&item| (owner.item_name(item), owner.item_value(item)))
                .collect();
            pairs.retain(|pair| options.keeps(pair.0));
            write_step(next, &pairs, options.values, out);
        }
    }
    Ok(())
}

/// Living items from a cursor on, about `count`, in whole groups; and the next cursor.
fn step(owner: &mut Owner, large: &Large, cursor: u64, count: usize) -> (u64, Vec<Item>) {
    owner.order(large);
    let order = owner.known_order(large);
    let group = |item: &Item| item.sort >> CURSOR_SHIFT;
    let from = order.first_not(|item| group(item) + 1 < cursor);
    let (mut seen, mut last) = (0, None);
    let mut items = Vec::new();
    for item in order.forward(from) {
        if seen >= count && last != Some(group(&item)) {
            return (group(&item) + 1, items);
        }
        (seen, last) = (seen + 1, Some(group(&item)));
        if owner.item_lives(item) {
            items.push(item);
        }
    }
    (0, items)
}

fn write_step(cursor: u64, pairs: &[Pair], values: bool, out: &mut impl Sink) {
    out.array(2);
    out.bytes(cursor.to_string().as_bytes());
    out.array(pairs.len() * (1 + values as usize));
    pairs.iter().for_each(|&pair| write_pair(pair, true, values, out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_different_and_even() {
        let mut dice = Dice(5);
        let mut hits = [0; 10];
        for _ in 0..10_000 {
            let mut numbers = different(3, 10, &mut dice);
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), 3);
            numbers.into_iter().for_each(|number| hits[number] += 1);
        }
        assert!(hits.iter().all(|&count| (2_700..3_300).contains(&count)), "{hits:?}");
        assert_eq!(different(9, 4, &mut dice), [0, 1, 2, 3]);
    }

    #[test]
    fn items_of_an_order_are_different_and_even() {
        let name = |at: u64| -> &'static [u8] { Box::leak(at.to_be_bytes().to_vec().into_boxed_slice()) };
        let mut order = Order::default();
        // More blocks than are counted through.
        let total = 60_000u64;
        for sort in 0..total {
            let (position, _) = order.find(sort, name(sort), name);
            order.insert(position, Item { sort, at: sort });
        }
        let mut dice = Dice(6);
        for count in [1usize, 10, 20_000, 59_999, 70_000] {
            let mut items = different_items(&order, count, &mut dice);
            let mean = items.iter().map(|item| item.at as f64).sum::<f64>() / items.len() as f64;
            assert!(count < 1000 || (mean - 30_000.0).abs() < 1_000.0, "{mean}");
            items.sort_unstable_by_key(|item| item.at);
            items.dedup();
            assert_eq!(items.len(), count.min(total as usize));
        }
    }
}
