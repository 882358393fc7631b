//! Some members of a sorted set: random ones, and the steps of ZSCAN.
//!
//! A step goes on behind the member that the last one ended with. Its score and name do not fit in a cursor's 64 bits: the owner keeps the latest
//! places, and the cursor names one. A place that is forgotten, after a restart too, is the start: then members are given again. What keeps its score
//! from the first step to the last is given at least once; of what gets another score meanwhile that is not sure.

use super::picks::{different, different_items, Dice, Options, Wanted};
use super::read::View;
use super::reply::Sink;
use super::scan::cursor_arg;
use super::zset_view::{look, scored, write_one, Ranked, Scored};
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::large::{Large, Opened};
use crate::owner::order::Item;
use crate::owner::Owner;

/// ZSCAN key cursor [MATCH pattern] [COUNT n].
pub fn scan(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let cursor = cursor_arg(args[2])?;
    match owner.open(args[1], Kind::Zset)? {
        Opened::Missing => write_step(0, &[], out),
        Opened::Compact(entry) => {
            let options = Options::parse(&args[3..], Kind::Zset)?;
            let all: Vec<Scored> = owner
                .small(&entry)
                .scored()
                .filter(|(_, member)| options.keeps(member))
                .collect();
            write_step(0, &all, out);
        }
        Opened::Large(large) => {
            let options = Options::parse(&args[3..], Kind::Zset)?;
            let (next, items) = step(owner, &large, cursor, options.count);
            let all = items.into_iter().map(|item| scored(owner, item));
            let kept: Vec<Scored> = all.filter(|(_, member)| options.keeps(member)).collect();
            write_step(next, &kept, out);
        }
    }
    Ok(())
}

fn step(owner: &mut Owner, large: &Large, cursor: u64, count: usize) -> (u64, Vec<Item>) {
    owner.order(large);
    let order = owner.known_order(large);
    let from = match owner.scan_places.find(cursor, large.id) {
        None => order.at_rank(0),
        Some(place) => {
            let (sort, name) = (place.sort, place.name.as_slice());
            order.first_not(|item| item.sort < sort || item.sort == sort && owner.item_name(*item) <= name)
        }
    };
    let mut items: Vec<Item> = order.forward(from).take(count + 1).collect();
    if items.len() <= count {
        return (0, items);
    }
    items.pop();
    let last = *items.last().expect("a count is at least one");
    let name = owner.item_name(last).to_vec();
    (owner.scan_places.keep(large.id, last.sort, &name), items)
}

fn write_step(cursor: u64, all: &[Scored], out: &mut impl Sink) {
    out.array(2);
    out.bytes(cursor.to_string().as_bytes());
    out.array(all.len() * 2);
    all.iter().for_each(|&one| write_one(one, true, out));
}

/// ZRANDMEMBER key [count [WITHSCORES]].
pub fn random<V: View, S: Sink>(view: &mut V, args: &Args, out: &mut S) -> Result<(), Fail> {
    let (wanted, scores) = Wanted::with_option(args, b"withscores")?;
    let mut dice = Dice(view.draw());
    look(view, args[1], |ranked| {
        let total = ranked.len();
        let chosen: Vec<Scored> = match (wanted, ranked) {
            (Wanted::One, _) => {
                match ranked.at(dice.below(total.max(1))) {
                    Some((_, member)) => out.bytes(member),
                    None => out.nil(),
                }
                return;
            }
            (_, _) if total == 0 => Vec::new(),
            (Wanted::Different(count), Ranked::Small(all)) => different(count, total, &mut dice)
                .into_iter()
                .map(|number| all[number])
                .collect(),
            (Wanted::Any(count), Ranked::Small(all)) => (0..count).map(|_| all[dice.below(total)]).collect(),
            (Wanted::Different(count), Ranked::Large(owner, order)) => {
                let items = different_items(order, count, &mut dice).into_iter();
                items.map(|item| scored(owner, item)).collect()
            }
            (Wanted::Any(count), Ranked::Large(owner, order)) => {
                let items = (0..count).filter_map(|_| order.random(|end| dice.below(end)));
                items.map(|item| scored(owner, item)).collect()
            }
        };
        out.array(chosen.len() * (1 + scores as usize));
        chosen.into_iter().for_each(|one| write_one(one, scores, out));
    })
}
