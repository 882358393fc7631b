//! Commands that take from a list to give it to another, or that look for the first of several lists with an element; and those that wait for one.
//!
//! Those that wait are tried once here: nil says that there is nothing yet. Who serves the client asks again.

use super::events::event;
use super::list_changes::{peek, pop, push, rotate};
use super::lists::{array, range_arg};
use super::number::float_of;
use super::reply::Sink;
use super::table::Command;
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::list::End;
use crate::owner::Owner;

const LPUSH: u8 = event("lpush");
const RPUSH: u8 = event("rpush");

fn popped_at(end: End) -> u8 {
    const LPOP: u8 = event("lpop");
    const RPOP: u8 = event("rpop");
    if end == End::Left {
        LPOP
    } else {
        RPOP
    }
}

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Lmove => {
            let (from, to) = (end_arg(args[3])?, end_arg(args[4])?);
            move_element(owner, args[1], args[2], from, to, out)
        }
        Command::Blmove => {
            let (from, to) = (end_arg(args[3])?, end_arg(args[4])?);
            check_timeout(args[5])?;
            move_element(owner, args[1], args[2], from, to, out)
        }
        Command::Rpoplpush => move_element(owner, args[1], args[2], End::Right, End::Left, out),
        Command::Brpoplpush => {
            check_timeout(args[3])?;
            move_element(owner, args[1], args[2], End::Right, End::Left, out)
        }
        Command::Lmpop => pop_first(owner, args, 1, out),
        Command::Blmpop => {
            check_timeout(args[1])?;
            pop_first(owner, args, 2, out)
        }
        Command::Blpop | Command::Brpop => {
            let end = if command == Command::Blpop { End::Left } else { End::Right };
            let (timeout, keys) = args[1..].split_last().expect("the table asks for two arguments");
            check_timeout(timeout)?;
            for key in keys {
                if let Some(popped) = pop(owner, key, end, 1)? {
                    out.array(2);
                    out.bytes(key);
                    out.bytes(&popped[0]);
                    return Ok(());
                }
            }
            out.nil();
            Ok(())
        }
        other => unreachable!("{other:?} is no list command"),
    }
}

/// Seconds that a client wants to wait. Only whether there are any such is checked here.
pub(super) fn check_timeout(text: &[u8]) -> Result<(), Fail> {
    let seconds = float_of(text).ok_or_else(|| Fail::err("timeout is not a float or out of range"))?;
    // Those that no clock can count are negative in Redis as well.
    let milliseconds = (seconds * 1000.0).ceil();
    if milliseconds < 0.0 || milliseconds >= i64::MAX as f64 {
        return Err(Fail::err("timeout is negative"));
    }
    Ok(())
}

fn end_arg(text: &[u8]) -> Result<End, Fail> {
    match text.to_ascii_lowercase().as_slice() {
        b"left" => Ok(End::Left),
        b"right" => Ok(End::Right),
        _ => Err(Fail::syntax()),
    }
}

fn move_element(owner: &mut Owner, from: &[u8], to: &[u8], from_end: End, to_end: End, out: &mut impl Sink) -> Result<(), Fail> {
    let Some(element) = peek(owner, from, from_end)? else {
        out.nil();
        return Ok(());
    };
    if from == to {
        owner.event = if to_end == End::Left { LPUSH } else { RPUSH };
        rotate(owner, from, from_end, to_end)?;
    } else {
        if owner
            .lookup(to)
            .is_some_and(|entry| entry.meta.kind_code() != Kind::List as u8)
        {
            return Err(Fail::wrong_type());
        }
        owner.grouped(|owner| {
            owner.event = if to_end == End::Left { LPUSH } else { RPUSH };
            push(owner, to, &[&element], to_end, false)?;
            owner.event = popped_at(from_end);
            pop(owner, from, from_end, 1)?;
            Ok::<(), Fail>(())
        })?;
    }
    out.bytes(&element);
    Ok(())
}

/// The keys of a command whose argument number `at` says how many there are, and what comes behind them.
pub(super) fn keys_by_number<'a, 'b>(args: &'a Args<'b>, at: usize) -> Result<(&'a [&'b [u8]], &'a [&'b [u8]]), Fail> {
    let count = range_arg(args[at], 1, Some("numkeys should be greater than 0"))? as usize;
    let rest = &args[at + 1..];
    if count >= rest.len() {
        return Err(Fail::syntax());
    }
    Ok(rest.split_at(count))
}

fn pop_first(owner: &mut Owner, args: &Args, numkeys_at: usize, out: &mut impl Sink) -> Result<(), Fail> {
    let (keys, rest) = keys_by_number(args, numkeys_at)?;
    let end = end_arg(rest[0])?;
    let count = match rest[1..] {
        [] => 1,
        [word, count] if word.eq_ignore_ascii_case(b"count") => {
            range_arg(count, 1, Some("count should be greater than 0"))? as usize
        }
        _ => return Err(Fail::syntax()),
    };
    owner.event = popped_at(end);
    for key in keys {
        if let Some(popped) = pop(owner, key, end, count)? {
            out.array(2);
            out.bytes(key);
            array(&popped, out);
            return Ok(());
        }
    }
    out.nil();
    Ok(())
}
