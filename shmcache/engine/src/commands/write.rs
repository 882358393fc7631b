//! Commands that change keys: strings, counters, deadlines.

use super::names::{copy, rename};
use super::number::{float_arg, format_float, int_arg, Decimal};
use super::reply::Sink;
use super::table::Command;
use super::{assign, bitfield, bits, expect_string, hyperloglog, Args, Fail};
use crate::layout::{Kind, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::owner::{Entry, Owner, Refused};

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Set => assign::set(owner, args, out),
        Command::Setnx => {
            let absent = owner.lookup(args[1]).is_none();
            if absent {
                owner.put(args[1], Kind::String, args[2], 0)?;
            }
            out.flag(absent);
            Ok(())
        }
        Command::Setex => assign::set_with_ttl(owner, args, 1000, "setex", out),
        Command::Psetex => assign::set_with_ttl(owner, args, 1, "psetex", out),
        Command::Getset => {
            let old = string_value(owner, args[1])?;
            owner.put(args[1], Kind::String, args[2], 0)?;
            write_option(old.as_deref(), out);
            Ok(())
        }
        Command::Getdel => {
            let old = string_value(owner, args[1])?;
            owner.remove(args[1]);
            write_option(old.as_deref(), out);
            Ok(())
        }
        Command::Getex => assign::getex(owner, args, out),
        Command::Mset => {
            check_pairs(args, "mset")?;
            owner.grouped(|owner| put_pairs(owner, args))?;
            out.ok();
            Ok(())
        }
        Command::Msetnx => {
            check_pairs(args, "msetnx")?;
            let free = args[1..].chunks(2).all(|pair| owner.lookup(pair[0]).is_none());
            if free {
                owner.grouped(|owner| put_pairs(owner, args))?;
            }
            out.flag(free);
            Ok(())
        }
        Command::Del | Command::Unlink => {
            let count = args[1..].iter().filter(|key| owner.remove(key)).count();
            out.int(count as i64);
            Ok(())
        }
        Command::Incr => increment(owner, args[1], 1, out),
        Command::Decr => increment(owner, args[1], -1, out),
        Command::Incrby => increment(owner, args[1], int_arg(args[2])?, out),
        Command::Decrby => {
            let by = int_arg(args[2])?
                .checked_neg()
                .ok_or_else(|| Fail::err("decrement would overflow"))?;
            increment(owner, args[1], by, out)
        }
        Command::Incrbyfloat => increment_float(owner, args, out),
        Command::Append => {
            let entry = string_entry(owner, args[1])?;
            let mut value = entry.map_or(Vec::new(), |entry| owner.value(&entry).to_vec());
            check_length(value.len() + args[2].len())?;
            value.extend_from_slice(args[2]);
            replace(owner, args[1], entry, &value)?;
            out.int(value.len() as i64);
            Ok(())
        }
        Command::Setrange => setrange(owner, args, out),
        Command::Setbit | Command::Bitop => bits::write(owner, command, args, out),
        Command::Bitfield => bitfield::run(owner, args, out),
        Command::Pfadd | Command::Pfmerge => hyperloglog::write(owner, command, args, out),
        Command::Expire => expire(
            owner,
            args,
            "expire",
            |value, now| value.checked_mul(1000)?.checked_add(now),
            out,
        ),
        Command::Pexpire => expire(owner, args, "pexpire", |value, now| value.checked_add(now), out),
        Command::Expireat => expire(owner, args, "expireat", |value, _| value.checked_mul(1000), out),
        Command::Pexpireat => expire(owner, args, "pexpireat", |value, _| Some(value), out),
        Command::Persist => {
            let entry = owner.lookup(args[1]);
            let had = entry.filter(|entry| owner.deadline(entry) != 0);
            if let Some(entry) = had {
                owner.set_deadline(args[1], &entry, 0)?;
            }
            out.flag(had.is_some());
            Ok(())
        }
        Command::Rename => {
            rename(owner, args, true)?;
            out.ok();
            Ok(())
        }
        Command::Renamenx => {
            let done = rename(owner, args, false)?;
            out.flag(done);
            Ok(())
        }
        Command::Copy => copy(owner, args, out),
        Command::Flushall | Command::Flushdb => {
            match args {
                [_] => {}
                [_, mode] if mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync") => {}
                _ => return Err(Fail::syntax()),
            }
            owner.flush();
            out.ok();
            Ok(())
        }
        other => unreachable!("{other:?} is no writing command"),
    }
}

// ---------------------------------------------------------------- helpers

pub(super) fn string_entry(owner: &mut Owner, key: &[u8]) -> Result<Option<Entry>, Fail> {
    let entry = owner.lookup(key);
    if let Some(entry) = &entry {
        expect_string(entry.meta.kind_code())?;
    }
    Ok(entry)
}

/// A copy of the value: it must outlive the write that follows.
pub(super) fn string_value(owner: &mut Owner, key: &[u8]) -> Result<Option<Vec<u8>>, Fail> {
    let entry = owner.access(key);
    if let Some(entry) = &entry {
        expect_string(entry.meta.kind_code())?;
    }
    Ok(entry.map(|entry| owner.value(&entry).to_vec()))
}

pub(super) fn write_option(value: Option<&[u8]>, out: &mut impl Sink) {
    match value {
        Some(value) => out.bytes(value),
        None => out.nil(),
    }
}

/// A new value under the old one's deadline.
pub(super) fn replace(owner: &mut Owner, key: &[u8], old: Option<Entry>, value: &[u8]) -> Result<(), Fail> {
    let deadline = old.map_or(0, |entry| owner.deadline(&entry));
    owner.put(key, Kind::String, value, deadline)?;
    Ok(())
}

pub(super) fn check_length(bytes: usize) -> Result<(), Fail> {
    if bytes > MAX_VALUE_BYTES {
        return Err(Fail::err("string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    Ok(())
}

/// A copy of the value, with zeros behind it up to `bytes` if it is shorter.
pub(super) fn grown_value(owner: &Owner, entry: Option<Entry>, bytes: usize) -> Result<Vec<u8>, Fail> {
    check_length(bytes)?;
    // Before memory is filled for a value that cannot be stored.
    if bytes as u64 > owner.memory_bytes() {
        return Err(Refused::OutOfMemory.into());
    }
    let old = entry.map_or(&b""[..], |entry| owner.value(&entry));
    let mut value = Vec::with_capacity(old.len().max(bytes));
    value.extend_from_slice(old);
    value.resize(old.len().max(bytes), 0);
    Ok(value)
}

pub(super) fn invalid_expire(command: &str) -> Fail {
    Fail::err(format!("invalid expire time in '{command}' command"))
}

// ---------------------------------------------------------------- several keys, parts of values

fn check_pairs(args: &Args, name: &str) -> Result<(), Fail> {
    if args.len().is_multiple_of(2) {
        return Err(Fail::err(format!("wrong number of arguments for '{name}' command")));
    }
    Ok(())
}

fn put_pairs(owner: &mut Owner, args: &Args) -> Result<(), Fail> {
    // Before anything is written: inside a transaction nothing takes the first pairs back.
    for pair in args[1..].chunks(2) {
        if pair[0].len() > MAX_KEY_BYTES {
            return Err(Refused::KeyTooLong.into());
        }
        if pair[1].len() > MAX_VALUE_BYTES {
            return Err(Refused::ValueTooLong.into());
        }
    }
    for pair in args[1..].chunks(2) {
        owner.put(pair[0], Kind::String, pair[1], 0)?;
    }
    Ok(())
}

fn setrange(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let start = int_arg(args[2])?;
    let start = usize::try_from(start).map_err(|_| Fail::err("offset is out of range"))?;
    let entry = string_entry(owner, args[1])?;
    if args[3].is_empty() {
        out.int(entry.map_or(0, |entry| owner.value(&entry).len()) as i64);
        return Ok(());
    }
    let end = start.saturating_add(args[3].len());
    let mut value = grown_value(owner, entry, end)?;
    value[start..end].copy_from_slice(args[3]);
    replace(owner, args[1], entry, &value)?;
    out.int(value.len() as i64);
    Ok(())
}

// ---------------------------------------------------------------- counters

fn increment(owner: &mut Owner, key: &[u8], by: i64, out: &mut impl Sink) -> Result<(), Fail> {
    let entry = string_entry(owner, key)?;
    let old = match &entry {
        Some(entry) => int_arg(owner.value(entry))?,
        None => 0,
    };
    let new = old
        .checked_add(by)
        .ok_or_else(|| Fail::err("increment or decrement would overflow"))?;
    let mut digits = itoa::Buffer::new();
    replace(owner, key, entry, digits.format(new).as_bytes())?;
    out.int(new);
    Ok(())
}

fn increment_float(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let entry = string_entry(owner, args[1])?;
    let old = entry.map_or(&b"0"[..], |entry| owner.value(&entry));
    let text = sum_text(old, args[2])?;
    replace(owner, args[1], entry, text.as_bytes())?;
    out.bytes(text.as_bytes());
    Ok(())
}

/// As decimals while both are of a usual size, else as 64-bit floats.
pub(super) fn sum_text(old: &[u8], by: &[u8]) -> Result<String, Fail> {
    if let (Some(old), Some(by)) = (Decimal::parse(old), Decimal::parse(by)) {
        return Ok(old.plus(by).to_string());
    }
    let new = float_arg(old)? + float_arg(by)?;
    if !new.is_finite() {
        return Err(Fail::err("increment would produce NaN or Infinity"));
    }
    Ok(format_float(new))
}

// ---------------------------------------------------------------- deadlines

fn expire(
    owner: &mut Owner,
    args: &Args,
    name: &str,
    deadline: impl FnOnce(i64, i64) -> Option<i64>,
    out: &mut impl Sink,
) -> Result<(), Fail> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in &args[3..] {
        match () {
            _ if option.eq_ignore_ascii_case(b"nx") => nx = true,
            _ if option.eq_ignore_ascii_case(b"xx") => xx = true,
            _ if option.eq_ignore_ascii_case(b"gt") => gt = true,
            _ if option.eq_ignore_ascii_case(b"lt") => lt = true,
            _ => return Err(Fail::err(format!("Unsupported option {}", String::from_utf8_lossy(option)))),
        }
    }
    if nx && (xx || gt || lt) {
        return Err(Fail::err("NX and XX, GT or LT options at the same time are not compatible"));
    }
    if gt && lt {
        return Err(Fail::err("GT and LT options at the same time are not compatible"));
    }
    let value = int_arg(args[2])?;
    let deadline = deadline(value, owner.now_ms as i64).ok_or_else(|| invalid_expire(name))?;
    let Some(entry) = owner.lookup(args[1]) else {
        out.flag(false);
        return Ok(());
    };
    // No deadline counts as infinitely late.
    let old = owner.deadline(&entry) as i64;
    let refused = nx && old != 0 || xx && old == 0 || gt && (old == 0 || deadline <= old) || lt && old != 0 && deadline >= old;
    if !refused {
        if deadline <= owner.now_ms as i64 {
            owner.remove(args[1]);
        } else {
            owner.set_deadline(args[1], &entry, deadline as u64)?;
        }
    }
    out.flag(!refused);
    Ok(())
}
