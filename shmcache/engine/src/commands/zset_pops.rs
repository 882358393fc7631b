//! Taking members from the ends of sorted sets, also of the first of several that has any. Those that wait are tried once here: nil says that there
//! is nothing yet, and who serves the client asks again.

use super::events::event;
use super::list_moves::{check_timeout, keys_by_number};
use super::lists::range_arg;
use super::reply::Sink;
use super::table::Command;
use super::zset_changes::take_ranks;
use super::zset_view::{look, write_score};
use super::{Args, Fail};
use crate::owner::Owner;

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Zpopmin | Command::Zpopmax => {
            if args.len() > 3 {
                return Err(Fail::syntax());
            }
            let count = match args.get(2) {
                Some(text) => range_arg(text, 0, Some("value is out of range, must be positive"))? as usize,
                None => 1,
            };
            let taken = pop(owner, args[1], command == Command::Zpopmax, count)?;
            out.array(taken.len() * 2);
            for (score, member) in &taken {
                out.bytes(member);
                write_score(*score, out);
            }
            Ok(())
        }
        Command::Bzpopmin | Command::Bzpopmax => {
            let (timeout, keys) = args[1..].split_last().expect("the table asks for two arguments");
            check_timeout(timeout)?;
            for key in keys {
                if let Some((score, member)) = pop(owner, key, command == Command::Bzpopmax, 1)?.first() {
                    out.array(3);
                    out.bytes(key);
                    out.bytes(member);
                    write_score(*score, out);
                    return Ok(());
                }
            }
            out.nil();
            Ok(())
        }
        Command::Zmpop => pop_first(owner, args, 1, out),
        Command::Bzmpop => {
            check_timeout(args[1])?;
            pop_first(owner, args, 2, out)
        }
        other => unreachable!("{other:?} takes nothing"),
    }
}

/// Up to `count` members from an end, that one first.
fn pop(owner: &mut Owner, key: &[u8], highest: bool, count: usize) -> Result<Vec<(f64, Vec<u8>)>, Fail> {
    let mut taken = take_ranks(owner, key, |length| {
        let count = count.min(length);
        if highest {
            length - count..length
        } else {
            0..count
        }
    })?;
    if highest {
        taken.reverse();
    }
    Ok(taken)
}

fn pop_first(owner: &mut Owner, args: &Args, numkeys_at: usize, out: &mut impl Sink) -> Result<(), Fail> {
    let (keys, rest) = keys_by_number(args, numkeys_at)?;
    let highest = match rest[0].to_ascii_lowercase().as_slice() {
        b"min" => false,
        b"max" => true,
        _ => return Err(Fail::syntax()),
    };
    let count = match rest[1..] {
        [] => 1,
        [word, count] if word.eq_ignore_ascii_case(b"count") => {
            range_arg(count, 1, Some("count should be greater than 0"))? as usize
        }
        _ => return Err(Fail::syntax()),
    };
    owner.event = if highest { event("zpopmax") } else { event("zpopmin") };
    for key in keys {
        if look(owner, key, |ranked| ranked.len())? == 0 {
            continue;
        }
        let taken = pop(owner, key, highest, count)?;
        out.array(2);
        out.bytes(key);
        out.array(taken.len());
        for (score, member) in &taken {
            out.array(2);
            out.bytes(member);
            write_score(*score, out);
        }
        return Ok(());
    }
    out.nil();
    Ok(())
}
