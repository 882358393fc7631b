//! SET and the commands that set a value or a deadline as its options do: SETEX, PSETEX, GETEX.
//!
//! Options are read first, their numbers after: a wrong option is told before a wrong number. An option may be repeated (the last one
//! counts), but not contradicted.

use super::events::event;
use super::number::{int_arg, parse_int};
use super::reply::Sink;
use super::write::{invalid_expire, string_entry, string_value, write_option};
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::Owner;

const DEL: u8 = event("del");
const PERSIST: u8 = event("persist");

#[derive(Clone, Copy, PartialEq)]
enum Condition {
    Always,
    Absent,
    Present,
    Stamp(u64),
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Ex,
    Px,
    Exat,
    Pxat,
}

#[derive(Clone, Copy)]
enum Lifetime<'a> {
    /// Nothing was said.
    Unsaid,
    /// KEEPTTL or PERSIST, whichever the command has.
    Word,
    Given(Unit, &'a [u8]),
}

impl<'a> Lifetime<'a> {
    /// With a further option: `word` (KEEPTTL or PERSIST), or a unit and the number behind it. `Ok(None)` if `option` is none of them.
    fn with(self, option: &[u8], next: Option<&&'a [u8]>, word: &str) -> Result<Option<Lifetime<'a>>, Fail> {
        if option.eq_ignore_ascii_case(word.as_bytes()) {
            return match self {
                Lifetime::Given(..) => Err(Fail::syntax()),
                _ => Ok(Some(Lifetime::Word)),
            };
        }
        let unit = match () {
            _ if option.eq_ignore_ascii_case(b"ex") => Unit::Ex,
            _ if option.eq_ignore_ascii_case(b"px") => Unit::Px,
            _ if option.eq_ignore_ascii_case(b"exat") => Unit::Exat,
            _ if option.eq_ignore_ascii_case(b"pxat") => Unit::Pxat,
            _ => return Ok(None),
        };
        let contradicts = match self {
            Lifetime::Unsaid => false,
            Lifetime::Word => true,
            Lifetime::Given(before, _) => before != unit,
        };
        match next {
            Some(number) if !contradicts => Ok(Some(Lifetime::Given(unit, number))),
            _ => Err(Fail::syntax()),
        }
    }

    /// Unix ms; None if no number was given.
    fn deadline(self, owner: &Owner, command: &str) -> Result<Option<u64>, Fail> {
        let Lifetime::Given(unit, number) = self else {
            return Ok(None);
        };
        let (factor, from) = match unit {
            Unit::Ex => (1000, owner.now_ms as i64),
            Unit::Px => (1, owner.now_ms as i64),
            Unit::Exat => (1000, 0),
            Unit::Pxat => (1, 0),
        };
        deadline(int_arg(number)?, factor, from, command).map(Some)
    }
}

fn deadline(value: i64, factor: i64, from: i64, command: &str) -> Result<u64, Fail> {
    let ms = value.checked_mul(factor).and_then(|ms| ms.checked_add(from));
    match ms {
        Some(ms) if value > 0 => Ok(ms as u64),
        _ => Err(invalid_expire(command)),
    }
}

pub fn set(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    if args.len() == 3 {
        owner.put(args[1], Kind::String, args[2], 0)?;
        out.ok();
        return Ok(());
    }
    let (mut condition, mut lifetime, mut get) = (Condition::Always, Lifetime::Unsaid, false);
    let mut at = 3;
    while at < args.len() {
        let option = args[at];
        let choose = |old: Condition, new: Condition| {
            if old == Condition::Always || old == new {
                Ok(new)
            } else {
                Err(Fail::syntax())
            }
        };
        if option.eq_ignore_ascii_case(b"nx") {
            condition = choose(condition, Condition::Absent)?;
        } else if option.eq_ignore_ascii_case(b"xx") {
            condition = choose(condition, Condition::Present)?;
        } else if option.eq_ignore_ascii_case(b"ifstamp") {
            at += 1;
            let stamp = args.get(at).and_then(|text| parse_int(text)).filter(|&stamp| stamp >= 0);
            let stamp = stamp.ok_or_else(|| Fail::err("a stamp is an integer that GETSTAMP returned, or 0 for no key"))?;
            let wanted = if stamp == 0 {
                Condition::Absent
            } else {
                Condition::Stamp(stamp as u64)
            };
            condition = choose(condition, wanted)?;
        } else if option.eq_ignore_ascii_case(b"get") {
            get = true;
        } else if let Some(more) = lifetime.with(option, args.get(at + 1), "keepttl")? {
            lifetime = more;
            at += matches!(more, Lifetime::Given(..)) as usize;
        } else {
            return Err(Fail::syntax());
        }
        at += 1;
    }
    let deadline = lifetime.deadline(owner, "set")?;
    let entry = if get {
        string_entry(owner, args[1])?
    } else {
        owner.lookup(args[1])
    };
    let old = if get {
        entry.map(|entry| owner.value(&entry).to_vec())
    } else {
        None
    };
    let met = match condition {
        Condition::Always => true,
        Condition::Absent => entry.is_none(),
        Condition::Present => entry.is_some(),
        Condition::Stamp(stamp) => entry.is_some_and(|entry| owner.stamp(&entry) == stamp),
    };
    if met {
        let deadline = match lifetime {
            Lifetime::Word => entry.map_or(0, |entry| owner.deadline(&entry)),
            _ => deadline.unwrap_or(0),
        };
        if deadline != 0 && deadline <= owner.now_ms {
            owner.event = DEL;
            owner.remove(args[1]);
        } else {
            if let Lifetime::Word = lifetime {
                // A deadline that stays is no event.
                owner.event = 0;
            }
            owner.put(args[1], Kind::String, args[2], deadline)?;
        }
    }
    match (get, met) {
        (true, _) => write_option(old.as_deref(), out),
        (false, true) => out.ok(),
        (false, false) => out.nil(),
    }
    Ok(())
}

pub fn set_with_ttl(owner: &mut Owner, args: &Args, factor: i64, name: &str, out: &mut impl Sink) -> Result<(), Fail> {
    let deadline = deadline(int_arg(args[2])?, factor, owner.now_ms as i64, name)?;
    owner.put(args[1], Kind::String, args[3], deadline)?;
    out.ok();
    Ok(())
}

pub fn getex(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let mut lifetime = Lifetime::Unsaid;
    let mut at = 2;
    while at < args.len() {
        lifetime = lifetime
            .with(args[at], args.get(at + 1), "persist")?
            .ok_or_else(Fail::syntax)?;
        at += 1 + matches!(lifetime, Lifetime::Given(..)) as usize;
    }
    let Some(value) = string_value(owner, args[1])? else {
        out.nil();
        return Ok(());
    };
    let deadline = match lifetime {
        Lifetime::Word => Some(0),
        _ => lifetime.deadline(owner, "getex")?,
    };
    if let (Some(deadline), Some(entry)) = (deadline, owner.lookup(args[1])) {
        if deadline != 0 && deadline <= owner.now_ms {
            owner.event = DEL;
            owner.remove(args[1]);
        } else {
            if deadline == 0 {
                owner.event = PERSIST;
            }
            owner.set_deadline(args[1], &entry, deadline)?;
        }
    }
    out.bytes(&value);
    Ok(())
}
