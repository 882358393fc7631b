//! Commands on lists: what they say. What changes a list is in `list_changes`, what concerns several lists in `list_moves`.

use super::list_changes::{insert, pop, push, remove_equal, set_element, trim};
use super::list_moves;
use super::number::{int_arg, parse_int};
use super::read::{Busy, Part, View};
use super::reply::Sink;
use super::table::Command;
use super::{Args, Fail};
use crate::compact::Compact;
use crate::layout::Kind;
use crate::owner::collections::root_id;
use crate::owner::large::{Large, Opened};
use crate::owner::list::End;
use crate::owner::Owner;

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let key = args[1];
    match command {
        Command::Lpush | Command::Rpush | Command::Lpushx | Command::Rpushx => {
            let end = if matches!(command, Command::Lpush | Command::Lpushx) {
                End::Left
            } else {
                End::Right
            };
            let only_existing = matches!(command, Command::Lpushx | Command::Rpushx);
            let length = push(owner, key, &args[2..], end, only_existing)?;
            out.int(length as i64);
        }
        Command::Lpop => pop_command(owner, args, End::Left, "lpop", out)?,
        Command::Rpop => pop_command(owner, args, End::Right, "rpop", out)?,
        Command::Lset => {
            set_element(owner, key, args[2], args[3])?;
            out.ok();
        }
        Command::Linsert => {
            let after = match args[2].to_ascii_lowercase().as_slice() {
                b"before" => false,
                b"after" => true,
                _ => return Err(Fail::syntax()),
            };
            let length = insert(owner, key, args[3], args[4], after)?;
            out.int(length);
        }
        Command::Lrem => {
            let count = int_arg(args[2])?;
            let gone = remove_equal(owner, key, count, args[3])?;
            out.int(gone as i64);
        }
        Command::Ltrim => {
            let (first, last) = (int_arg(args[2])?, int_arg(args[3])?);
            trim(owner, key, first, last)?;
            out.ok();
        }
        Command::Lpos => positions(owner, args, out)?,
        _ => list_moves::run(owner, command, args, out)?,
    }
    Ok(())
}

/// A number that is at least `least`; `message` is said of any that is not, or Redis' words.
pub(super) fn range_arg(text: &[u8], least: i64, message: Option<&'static str>) -> Result<i64, Fail> {
    match (parse_int(text), message) {
        (Some(number), _) if number >= least => Ok(number),
        (_, Some(message)) => Err(Fail::err(message)),
        (None, None) => int_arg(text),
        (Some(_), None) => Err(Fail::err(format!(
            "value is out of range, value must between {least} and {}",
            i64::MAX
        ))),
    }
}

/// Ranks of a range of positions in a list of this length, as LRANGE has them; empty if there are none.
pub(super) fn ranks(first: i64, last: i64, length: usize) -> std::ops::Range<usize> {
    let length = length as i64;
    let from_start = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let (first, last) = (from_start(first).max(0), from_start(last).min(length - 1));
    if first > last {
        0..0
    } else {
        first as usize..last as usize + 1
    }
}

/// The rank of one position; None if it is outside.
pub(super) fn rank(at: i64, length: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(length as i64)? } else { at };
    usize::try_from(at).ok().filter(|&at| at < length)
}

fn pop_command(owner: &mut Owner, args: &Args, end: End, name: &str, out: &mut impl Sink) -> Result<(), Fail> {
    if args.len() > 3 {
        return Err(Fail::err(format!("wrong number of arguments for '{name}' command")));
    }
    let count = match args.get(2) {
        Some(text) => Some(range_arg(text, 0, Some("value is out of range, must be positive"))? as usize),
        None => None,
    };
    let Some(popped) = pop(owner, args[1], end, count.unwrap_or(1))? else {
        out.nil();
        return Ok(());
    };
    match count {
        Some(_) => array(&popped, out),
        None => out.bytes(&popped[0]),
    }
    Ok(())
}

pub(super) fn array(elements: &[Vec<u8>], out: &mut impl Sink) {
    out.array(elements.len());
    elements.iter().for_each(|element| out.bytes(element));
}

// ---------------------------------------------------------------- looking

/// LLEN, LRANGE, LINDEX. A large list's order is known to the owner alone: a reader sends its client there.
pub fn read<V: View, S: Sink>(view: &mut V, command: Command, args: &Args, out: &mut S) -> Result<(), Fail> {
    let range = match command {
        Command::Lrange => (int_arg(args[2])?, int_arg(args[3])?),
        _ => (0, -1),
    };
    let is_large = view.look(args[1], Part::All, |seen| {
        let Some(seen) = seen else {
            answer_missing(command, out);
            return Ok(false);
        };
        if seen.kind_code != Kind::List as u8 {
            return Err(Fail::wrong_type());
        }
        if root_id(seen.value).is_some() {
            return Ok(true);
        }
        if let Some(list) = Compact::parse(seen.value) {
            answer_small(&list, command, args, range, out)?;
        } else {
            answer_missing(command, out);
        }
        Ok(false)
    })??;
    if !is_large {
        return Ok(());
    }
    let Some(owner) = view.owner() else { return Err(Busy.into()) };
    match owner.open(args[1], Kind::List)? {
        Opened::Large(large) => answer_large(owner, &large, command, args, range, out),
        _ => unreachable!("it was large a moment ago"),
    }
}

fn answer_missing(command: Command, out: &mut impl Sink) {
    match command {
        Command::Llen => out.int(0),
        Command::Lrange => out.array(0),
        _ => out.nil(),
    }
}

fn answer_small(list: &Compact, command: Command, args: &Args, range: (i64, i64), out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Llen => out.int(list.count as i64),
        Command::Lrange => {
            let ranks = ranks(range.0, range.1, list.count);
            out.array(ranks.len());
            list.strings()
                .skip(ranks.start)
                .take(ranks.len())
                .for_each(|element| out.bytes(element));
        }
        _ => {
            let rank = rank(int_arg(args[2])?, list.count);
            match rank.and_then(|rank| list.strings().nth(rank)) {
                Some(element) => out.bytes(element),
                None => out.nil(),
            }
        }
    }
    Ok(())
}

fn answer_large(
    owner: &mut Owner,
    large: &Large,
    command: Command,
    args: &Args,
    range: (i64, i64),
    out: &mut impl Sink,
) -> Result<(), Fail> {
    let length = owner.length(large);
    match command {
        Command::Llen => out.int(length as i64),
        Command::Lrange => {
            let ranks = ranks(range.0, range.1, length);
            out.array(ranks.len());
            let items = owner.known_order(large).range(ranks);
            items.for_each(|item| out.bytes(owner.item_value(item)));
        }
        _ => {
            let rank = rank(int_arg(args[2])?, length);
            let order = owner.known_order(large);
            match rank.and_then(|rank| order.get(order.at_rank(rank))) {
                Some(item) => out.bytes(owner.item_value(item)),
                None => out.nil(),
            }
        }
    }
    Ok(())
}

// ---------------------------------------------------------------- LPOS

struct Search<'a> {
    element: &'a [u8],
    /// Negative: from the end.
    rank: i64,
    /// 0: all.
    count: usize,
    /// How many elements are compared at most; 0: all.
    most: usize,
}

impl Search<'_> {
    /// Positions of the matches; `elements` come from the end if the rank is negative.
    fn run<'e>(&self, length: usize, elements: impl Iterator<Item = &'e [u8]>) -> Vec<usize> {
        let mut found = Vec::new();
        let mut to_skip = self.rank.unsigned_abs() - 1;
        let most = if self.most == 0 { length } else { self.most };
        for (step, element) in elements.take(most).enumerate() {
            if element != self.element {
                continue;
            }
            if to_skip > 0 {
                to_skip -= 1;
                continue;
            }
            found.push(if self.rank < 0 { length - 1 - step } else { step });
            if self.count != 0 && found.len() >= self.count {
                break;
            }
        }
        found
    }
}

fn positions(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let mut search = Search {
        element: args[2],
        rank: 1,
        count: 1,
        most: 0,
    };
    let mut several = false;
    let mut options = args[3..].iter();
    while let Some(option) = options.next() {
        let value = options.next().ok_or_else(Fail::syntax)?;
        match option.to_ascii_lowercase().as_slice() {
            b"rank" => {
                search.rank = range_arg(value, -i64::MAX, None)?;
                if search.rank == 0 {
                    return Err(Fail::err(
                        "RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                    ));
                }
            }
            b"count" => {
                search.count = range_arg(value, 0, Some("COUNT can't be negative"))? as usize;
                several = true;
            }
            b"maxlen" => search.most = range_arg(value, 0, Some("MAXLEN can't be negative"))? as usize,
            _ => return Err(Fail::syntax()),
        }
    }
    let found = match owner.open(args[1], Kind::List)? {
        Opened::Missing => Vec::new(),
        Opened::Compact(entry) => {
            let list = owner.small(&entry);
            if search.rank < 0 {
                let elements: Vec<&[u8]> = list.strings().collect();
                search.run(elements.len(), elements.into_iter().rev())
            } else {
                search.run(list.count, list.strings())
            }
        }
        Opened::Large(large) => {
            let length = owner.length(&large);
            let order = owner.known_order(&large);
            if search.rank < 0 {
                let elements = order.backward(order.at_rank(length)).map(|item| owner.item_value(item));
                search.run(length, elements)
            } else {
                search.run(length, order.iter().map(|item| owner.item_value(item)))
            }
        }
    };
    if several {
        out.array(found.len());
        found.iter().for_each(|&at| out.int(at as i64));
    } else {
        match found.first() {
            Some(&at) => out.int(at as i64),
            None => out.nil(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_as_in_redis() {
        assert_eq!(ranks(0, -1, 5), 0..5);
        assert_eq!(ranks(-100, 1, 5), 0..2);
        assert_eq!(ranks(3, 100, 5), 3..5);
        assert!(ranks(5, 9, 5).is_empty() && ranks(0, -100, 5).is_empty() && ranks(i64::MIN, i64::MIN, 5).is_empty());
        assert_eq!(ranks(i64::MIN, i64::MAX, 5), 0..5);
        assert_eq!(
            (rank(-1, 5), rank(4, 5), rank(5, 5), rank(-6, 5), rank(i64::MIN, 5)),
            (Some(4), Some(4), None, None, None)
        );
    }
}
