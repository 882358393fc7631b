//! Deadlines of a hash's fields: the HEXPIRE family of Redis 7.4, and HGETDEL, HGETEX, HSETEX of Redis 8.
//!
//! A field with a deadline is a part whose own entry has it, so a hash that gets one becomes large; the field expires as keys do.

use super::hashes::{delete_fields, pairs_of, set_fields, write_value, Lasting};
use super::number::{int_arg, parse_int};
use super::reply::Sink;
use super::table::Command;
use super::write::invalid_expire;
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::large::{Large, Opened};
use crate::owner::Owner;

const NO_FIELD: i64 = -2;
const NO_DEADLINE: i64 = -1;
const NOT_MET: i64 = 0;
const DONE: i64 = 1;
/// The deadline has passed already: the field is deleted.
const DELETED: i64 = 2;

/// Redis' latest deadline of a field, unix ms.
const DEADLINE_MAX: i64 = 1 << 46;

#[derive(Clone, Copy, PartialEq)]
enum Condition {
    Always,
    Nx,
    Xx,
    Gt,
    Lt,
}

impl Condition {
    fn named(text: &[u8]) -> Option<Condition> {
        Some(match text.to_ascii_lowercase().as_slice() {
            b"nx" => Condition::Nx,
            b"xx" => Condition::Xx,
            b"gt" => Condition::Gt,
            b"lt" => Condition::Lt,
            _ => return None,
        })
    }

    /// `old` 0: none, which counts as infinitely late.
    fn allows(self, old: u64, new: u64) -> bool {
        match self {
            Condition::Always => true,
            Condition::Nx => old == 0,
            Condition::Xx => old != 0,
            Condition::Gt => old != 0 && new > old,
            Condition::Lt => old == 0 || new < old,
        }
    }
}

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let now = owner.now_ms as i64;
    match command {
        Command::Hexpire => expire(owner, args, 1000, now, "hexpire", out),
        Command::Hpexpire => expire(owner, args, 1, now, "hpexpire", out),
        Command::Hexpireat => expire(owner, args, 1000, 0, "hexpireat", out),
        Command::Hpexpireat => expire(owner, args, 1, 0, "hpexpireat", out),
        // Rounded up: a field that is there has time left.
        Command::Httl => tell(owner, args, |deadline| (deadline - now + 999) / 1000, out),
        Command::Hpttl => tell(owner, args, |deadline| deadline - now, out),
        Command::Hexpiretime => tell(owner, args, |deadline| (deadline + 999) / 1000, out),
        Command::Hpexpiretime => tell(owner, args, |deadline| deadline, out),
        Command::Hpersist => {
            let fields = fields_at(args, 2, 1)?;
            let codes = change_fields(owner, args[1], fields, |old| match old {
                0 => Change::Refuse(NO_DEADLINE),
                _ => Change::Deadline(0),
            })?;
            write_codes(&codes, out);
            Ok(())
        }
        Command::Hgetdel => {
            let fields = fields_at(args, 2, 1)?;
            write_values(owner, args[1], fields, out)?;
            delete_fields(owner, args[1], fields)?;
            Ok(())
        }
        Command::Hgetex => get_and_expire(owner, args, out),
        Command::Hsetex => set_and_expire(owner, args, out),
        other => unreachable!("{other:?} is no hash command"),
    }
}

/// The fields behind `FIELDS number` at this position, `each` arguments a field.
fn fields_at<'a, 'b>(args: &'b Args<'a>, at: usize, each: usize) -> Result<&'b [&'a [u8]], Fail> {
    if !args.get(at).is_some_and(|word| word.eq_ignore_ascii_case(b"fields")) {
        return Err(Fail::err("Mandatory argument FIELDS is missing or not at the right position"));
    }
    let number = args.get(at + 1).and_then(|text| parse_int(text)).filter(|&number| number > 0);
    let number = number.ok_or_else(|| Fail::err("Parameter `numFields` should be greater than 0"))?;
    let fields = args.get(at + 2..).unwrap_or(&[]);
    if usize::try_from(number).ok().and_then(|number| number.checked_mul(each)) != Some(fields.len()) {
        return Err(Fail::err("The `numfields` parameter must match the number of arguments"));
    }
    Ok(fields)
}

fn write_codes(codes: &[i64], out: &mut impl Sink) {
    out.array(codes.len());
    codes.iter().for_each(|&code| out.int(code));
}

fn write_values(owner: &mut Owner, key: &[u8], fields: &[&[u8]], out: &mut impl Sink) -> Result<(), Fail> {
    let opened = owner.open(key, Kind::Hash)?;
    out.array(fields.len());
    for field in fields {
        match &opened {
            Opened::Missing => out.nil(),
            Opened::Compact(entry) => write_value(owner.small(entry).field(field), out),
            Opened::Large(large) => {
                let entry = owner.part(large, field);
                write_value(entry.as_ref().map(|entry| owner.value(entry)), out);
            }
        }
    }
    Ok(())
}

fn tell(owner: &mut Owner, args: &Args, show: impl Fn(i64) -> i64, out: &mut impl Sink) -> Result<(), Fail> {
    let fields = fields_at(args, 2, 1)?;
    let opened = owner.open(args[1], Kind::Hash)?;
    out.array(fields.len());
    for field in fields {
        out.int(match &opened {
            Opened::Missing => NO_FIELD,
            Opened::Compact(entry) if owner.small(entry).field(field).is_none() => NO_FIELD,
            Opened::Compact(_) => NO_DEADLINE,
            Opened::Large(large) => match owner.part(large, field) {
                None => NO_FIELD,
                Some(entry) => match owner.deadline(&entry) {
                    0 => NO_DEADLINE,
                    deadline => show(deadline as i64),
                },
            },
        });
    }
    Ok(())
}

/// What becomes of one field.
#[derive(Clone, Copy)]
enum Change {
    /// Nothing; answer this.
    Refuse(i64),
    /// Its deadline; 0: none.
    Deadline(u64),
    Delete,
}

fn change_of(deadline: u64, now: u64, condition: Condition) -> impl Fn(u64) -> Change {
    move |old| match () {
        _ if !condition.allows(old, deadline) => Change::Refuse(NOT_MET),
        _ if deadline <= now => Change::Delete,
        _ => Change::Deadline(deadline),
    }
}

/// Change fields as `decide` says of their deadlines (0: none); a code for each.
fn change_fields(owner: &mut Owner, key: &[u8], fields: &[&[u8]], decide: impl Fn(u64) -> Change) -> Result<Vec<i64>, Fail> {
    match owner.open(key, Kind::Hash)? {
        Opened::Missing => Ok(vec![NO_FIELD; fields.len()]),
        Opened::Large(large) => change_parts(owner, key, &large, fields, decide),
        Opened::Compact(entry) => {
            let hash = owner.small(&entry);
            // None of a compact hash's fields has a deadline: the same becomes of all.
            let there: Vec<bool> = fields.iter().map(|field| hash.field(field).is_some()).collect();
            let all = |code| there.iter().map(|&there| if there { code } else { NO_FIELD }).collect();
            match decide(0) {
                Change::Refuse(code) => Ok(all(code)),
                Change::Delete => {
                    let mut codes: Vec<i64> = all(DELETED);
                    for (index, field) in fields.iter().enumerate() {
                        if fields[..index].contains(field) {
                            codes[index] = NO_FIELD;
                        }
                    }
                    delete_fields(owner, key, fields)?;
                    Ok(codes)
                }
                Change::Deadline(_) if !there.contains(&true) => Ok(all(DONE)),
                Change::Deadline(_) => owner.within(|owner| {
                    let large = owner.enlarge(key, Kind::Hash, &entry)?;
                    change_parts(owner, key, &large, fields, decide)
                }),
            }
        }
    }
}

fn change_parts(
    owner: &mut Owner,
    key: &[u8],
    large: &Large,
    fields: &[&[u8]],
    decide: impl Fn(u64) -> Change,
) -> Result<Vec<i64>, Fail> {
    owner.order(large);
    owner.several(fields.len(), |owner| {
        let mut changed = false;
        let mut codes = Vec::with_capacity(fields.len());
        for field in fields {
            let Some(entry) = owner.part(large, field) else {
                codes.push(NO_FIELD);
                continue;
            };
            codes.push(match decide(owner.deadline(&entry)) {
                Change::Refuse(code) => code,
                Change::Delete => {
                    owner.remove_part(large, field);
                    changed = true;
                    DELETED
                }
                Change::Deadline(deadline) => {
                    let value = owner.value(&entry).to_vec();
                    owner.put_part(large, field, &value, deadline)?;
                    changed = true;
                    DONE
                }
            });
        }
        if owner.length(large) == 0 {
            owner.remove(key);
        } else if changed {
            owner.put_root(key, large)?;
        }
        Ok(codes)
    })
}

fn expire(owner: &mut Owner, args: &Args, factor: i64, from: i64, name: &str, out: &mut impl Sink) -> Result<(), Fail> {
    // WRONGTYPE comes first.
    owner.open(args[1], Kind::Hash)?;
    let value = int_arg(args[2])?;
    if value < 0 {
        return Err(Fail::err("invalid expire time, must be >= 0"));
    }
    let deadline = value
        .checked_mul(factor)
        .and_then(|ms| ms.checked_add(from))
        .filter(|&ms| ms <= DEADLINE_MAX);
    let deadline = deadline.ok_or_else(|| invalid_expire(name))? as u64;
    let condition = Condition::named(args[3]);
    let fields = fields_at(args, 3 + condition.is_some() as usize, 1)?;
    let decide = change_of(deadline, owner.now_ms, condition.unwrap_or(Condition::Always));
    let codes = change_fields(owner, args[1], fields, decide)?;
    write_codes(&codes, out);
    Ok(())
}

/// What HGETEX and HSETEX are told before FIELDS.
#[derive(Default)]
struct Options<'a> {
    /// Factor and beginning of the time, and the number.
    time: Option<(i64, bool, &'a [u8])>,
    persist: bool,
    keep: bool,
    /// Only if none, or all, of the fields exist.
    condition: Option<bool>,
    /// Where FIELDS is expected.
    end: usize,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>, words: &[&[u8]]) -> Result<Options<'a>, Fail> {
        let mut options = Options {
            end: 2,
            ..Options::default()
        };
        while let Some(option) = args.get(options.end) {
            let word = option.to_ascii_lowercase();
            if !words.contains(&word.as_slice()) {
                break;
            }
            options.end += 1;
            let lifetimes = options.time.is_some() as u8 + options.persist as u8 + options.keep as u8;
            match word.as_slice() {
                b"fnx" | b"fxx" if options.condition.is_some() => return Err(Fail::syntax()),
                b"fnx" => options.condition = Some(false),
                b"fxx" => options.condition = Some(true),
                _ if lifetimes > 0 => return Err(Fail::syntax()),
                b"persist" => options.persist = true,
                b"keepttl" => options.keep = true,
                unit => {
                    let factor = if unit.starts_with(b"ex") { 1000 } else { 1 };
                    let number = *args.get(options.end).ok_or_else(Fail::syntax)?;
                    options.time = Some((factor, !unit.ends_with(b"at"), number));
                    options.end += 1;
                }
            }
        }
        Ok(options)
    }

    /// Unix ms.
    fn deadline(&self, now: u64, name: &str) -> Result<Option<u64>, Fail> {
        let Some((factor, from_now, number)) = self.time else {
            return Ok(None);
        };
        let value = int_arg(number)?;
        let from = if from_now { now as i64 } else { 0 };
        let deadline = value.checked_mul(factor).and_then(|ms| ms.checked_add(from));
        match deadline {
            Some(deadline) if value > 0 && deadline <= DEADLINE_MAX => Ok(Some(deadline as u64)),
            _ => Err(invalid_expire(name)),
        }
    }
}

fn get_and_expire(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let options = Options::parse(args, &[b"ex", b"px", b"exat", b"pxat", b"persist"])?;
    let fields = fields_at(args, options.end, 1)?;
    let deadline = options.deadline(owner.now_ms, "hgetex")?;
    write_values(owner, args[1], fields, out)?;
    if let Some(deadline) = deadline {
        change_fields(owner, args[1], fields, change_of(deadline, owner.now_ms, Condition::Always))?;
    } else if options.persist {
        change_fields(owner, args[1], fields, |old| match old {
            0 => Change::Refuse(NO_DEADLINE),
            _ => Change::Deadline(0),
        })?;
    }
    Ok(())
}

fn set_and_expire(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let options = Options::parse(args, &[b"ex", b"px", b"exat", b"pxat", b"keepttl", b"fnx", b"fxx"])?;
    let pairs = pairs_of(fields_at(args, options.end, 2)?);
    let deadline = options.deadline(owner.now_ms, "hsetex")?;
    let opened = owner.open(args[1], Kind::Hash)?;
    if let Some(wanted) = options.condition {
        let mut allowed = true;
        for (field, _) in &pairs {
            let there = match &opened {
                Opened::Missing => false,
                Opened::Compact(entry) => owner.small(entry).field(field).is_some(),
                Opened::Large(large) => owner.part(large, field).is_some(),
            };
            allowed &= there == wanted;
        }
        if !allowed {
            out.flag(false);
            return Ok(());
        }
    }
    match deadline {
        Some(deadline) if deadline <= owner.now_ms => {
            let fields: Vec<&[u8]> = pairs.iter().map(|pair| pair.0).collect();
            delete_fields(owner, args[1], &fields)?;
        }
        Some(deadline) => {
            set_fields(owner, args[1], &pairs, Lasting::Until(deadline))?;
        }
        None => {
            let lasting = if options.keep { Lasting::Kept } else { Lasting::Forever };
            set_fields(owner, args[1], &pairs, lasting)?;
        }
    }
    out.flag(true);
    Ok(())
}
