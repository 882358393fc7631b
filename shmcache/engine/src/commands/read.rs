//! Reading commands with a key, over anything that can look at an entry: the owner or a lock-free reader.

use super::number::int_arg;
use super::reply::Sink;
use super::table::Command;
use super::{bitfield, bits, expect_string, hyperloglog, lcs, Args, Fail};
use crate::layout::Kind;
use crate::owner::Owner;

/// The reader's retries ran out, or its region is retired: the reader knows which.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

/// Which part of the value is wanted.
#[derive(Clone, Copy)]
pub enum Part {
    Nothing,
    All,
    /// First and last byte, as GETRANGE has them.
    Range(i64, i64),
}

impl Part {
    /// Start and length within a value of `total` bytes.
    pub fn of(self, total: u64) -> (u64, u64) {
        match self {
            Part::Nothing => (0, 0),
            Part::All => (0, total),
            Part::Range(first, last) => {
                let total = total as i64;
                // As Redis: both from the end and in the wrong order is nothing, even where clamping would make them meet.
                if first < 0 && last < 0 && first > last {
                    return (0, 0);
                }
                let clamp = |end: i64| if end < 0 { (total + end).max(0) } else { end };
                let (first, last) = (clamp(first), clamp(last).min(total - 1));
                if total == 0 || first > last {
                    (0, 0)
                } else {
                    (first as u64, (last - first + 1) as u64)
                }
            }
        }
    }
}

/// A live entry, consistent in itself.
pub struct Seen<'a> {
    pub stamp: u64,
    /// Unix ms; 0 = none.
    pub deadline: u64,
    pub kind_code: u8,
    /// Bytes of the whole value.
    pub total: u64,
    /// The part that was asked for.
    pub value: &'a [u8],
}

pub trait View {
    /// Somebody else may change what is looked at between two looks.
    const CONCURRENT: bool;
    fn time_ms(&mut self) -> u64;
    /// Look at a key's live entry; it counts as an access.
    fn look<T>(&mut self, key: &[u8], part: Part, visit: impl FnOnce(Option<Seen>) -> T) -> Result<T, Busy>;
    /// Say that these keys come next.
    fn prefetch(&self, key: &[u8]);

    /// The owner, if it is who looks: it alone knows the order of a large collection.
    fn owner(&mut self) -> Option<&mut Owner> {
        None
    }

    /// Something random.
    fn draw(&mut self) -> u64;
}

impl View for Owner {
    const CONCURRENT: bool = false;

    fn time_ms(&mut self) -> u64 {
        self.now_ms
    }

    #[inline]
    fn look<T>(&mut self, key: &[u8], part: Part, visit: impl FnOnce(Option<Seen>) -> T) -> Result<T, Busy> {
        let Some(entry) = self.access(key) else {
            return Ok(visit(None));
        };
        let total = entry.meta.value_bytes();
        let (start, length) = part.of(total);
        let value = &self.value(&entry)[start as usize..(start + length) as usize];
        Ok(visit(Some(Seen {
            stamp: self.stamp(&entry),
            deadline: self.deadline(&entry),
            kind_code: entry.meta.kind_code(),
            total,
            value,
        })))
    }

    #[inline]
    fn prefetch(&self, key: &[u8]) {
        Owner::prefetch(self, key);
    }

    fn owner(&mut self) -> Option<&mut Owner> {
        Some(self)
    }

    fn draw(&mut self) -> u64 {
        self.random()
    }
}

/// The value of a string, or the part that was asked for; None without a key.
pub fn string_of<'a>(seen: Option<Seen<'a>>) -> Result<Option<&'a [u8]>, Fail> {
    match seen {
        Some(seen) => expect_string(seen.kind_code).map(|()| Some(seen.value)),
        None => Ok(None),
    }
}

#[inline]
pub fn run<V: View, S: Sink>(view: &mut V, command: Command, args: &Args, out: &mut S) -> Result<(), Fail> {
    match command {
        Command::Get => get(view, args[1], out),
        Command::Mget => {
            out.array(args.len() - 1);
            for (index, key) in args[1..].iter().enumerate() {
                if let Some(ahead) = args.get(index + 5) {
                    view.prefetch(ahead);
                }
                view.look(key, Part::All, |seen| match seen {
                    // As in Redis: what is no string is no value, not an error.
                    Some(seen) if seen.kind_code == Kind::String as u8 => out.bytes(seen.value),
                    _ => out.nil(),
                })?;
            }
            Ok(())
        }
        Command::Getstamp => view.look(args[1], Part::All, |seen| match seen {
            Some(seen) => {
                expect_string(seen.kind_code)?;
                out.array(2);
                out.bytes(seen.value);
                out.int(seen.stamp as i64);
                Ok(())
            }
            None => {
                out.nil();
                Ok(())
            }
        })?,
        Command::Strlen => view.look(args[1], Part::Nothing, |seen| {
            let total = match seen {
                Some(seen) => {
                    expect_string(seen.kind_code)?;
                    seen.total
                }
                None => 0,
            };
            out.int(total as i64);
            Ok(())
        })?,
        Command::Getrange | Command::Substr => {
            let part = Part::Range(int_arg(args[2])?, int_arg(args[3])?);
            view.look(args[1], part, |seen| match seen {
                Some(seen) => {
                    expect_string(seen.kind_code)?;
                    out.bytes(seen.value);
                    Ok(())
                }
                None => {
                    out.bytes(b"");
                    Ok(())
                }
            })?
        }
        Command::Exists | Command::Touch => {
            let mut count = 0;
            for key in &args[1..] {
                count += view.look(key, Part::Nothing, |seen| seen.is_some() as i64)?;
            }
            out.int(count);
            Ok(())
        }
        Command::Keystamp => {
            let stamp = view.look(args[1], Part::Nothing, |seen| seen.map_or(0, |seen| seen.stamp))?;
            out.int(stamp as i64);
            Ok(())
        }
        Command::Type => {
            let name = view.look(args[1], Part::Nothing, |seen| {
                seen.and_then(|seen| Kind::from_code(seen.kind_code))
                    .map_or("none", Kind::name)
            })?;
            out.status(name);
            Ok(())
        }
        Command::Ttl => time_left(view, args[1], out, |deadline, now| seconds(deadline - now)),
        Command::Pttl => time_left(view, args[1], out, |deadline, now| deadline - now),
        Command::Expiretime => time_left(view, args[1], out, |deadline, _| seconds(deadline)),
        Command::Pexpiretime => time_left(view, args[1], out, |deadline, _| deadline),
        Command::Getbit | Command::Bitcount | Command::Bitpos => bits::read(view, command, args, out),
        Command::BitfieldRo => bitfield::read_only(view, args, out),
        Command::Pfcount => hyperloglog::count(view, args, out),
        Command::Lcs => lcs::run(view, args, out),
        other => unreachable!("{other:?} is flagged LOCAL and has no reader"),
    }
}

#[inline]
fn get<V: View, S: Sink>(view: &mut V, key: &[u8], out: &mut S) -> Result<(), Fail> {
    view.look(key, Part::All, |seen| match seen {
        Some(seen) => {
            expect_string(seen.kind_code)?;
            out.bytes(seen.value);
            Ok(())
        }
        None => {
            out.nil();
            Ok(())
        }
    })?
}

/// Rounded to the nearest second; a deadline may be the largest number there is.
fn seconds(ms: i64) -> i64 {
    if ms < 0 {
        ms / 1000
    } else {
        ((ms as u64 + 500) / 1000) as i64
    }
}

fn time_left<V: View, S: Sink>(view: &mut V, key: &[u8], out: &mut S, answer: impl FnOnce(i64, i64) -> i64) -> Result<(), Fail> {
    let now = view.time_ms() as i64;
    let deadline = view.look(key, Part::Nothing, |seen| seen.map(|seen| seen.deadline as i64))?;
    out.int(match deadline {
        None => -2,
        Some(0) => -1,
        Some(deadline) => answer(deadline, now),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_as_in_redis() {
        let range = |first, last| Part::Range(first, last).of(5);
        assert_eq!(range(0, -1), (0, 5));
        assert_eq!(range(-100, 1), (0, 2));
        assert_eq!(range(0, -100), (0, 1));
        assert_eq!(range(-100, -101), (0, 0));
        assert_eq!(range(i64::MIN, i64::MAX), (0, 5));
        assert_eq!(range(5, 9), (0, 0));
    }

    #[test]
    fn the_latest_deadline_has_seconds() {
        assert_eq!(seconds(i64::MAX), i64::MAX / 1000 + 1);
        assert_eq!(seconds(1499), 1);
        assert_eq!(seconds(1500), 2);
    }
}
