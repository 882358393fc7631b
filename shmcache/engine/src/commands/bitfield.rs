//! BITFIELD and BITFIELD_RO: integers of 1 to 64 bits at any bit of a value, the highest bit first.

use super::bits::bit_offset;
use super::number::int_arg;
use super::read::{string_of, Part, View};
use super::reply::Sink;
use super::write::{grown_value, replace, string_entry};
use super::{Args, Fail};
use crate::owner::Owner;

/// i1 to i64, u1 to u63 (so that every value fits a reply's integer).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Field {
    signed: bool,
    bits: u32,
    /// Its first bit.
    offset: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

type Step = (Field, Action);

impl Field {
    fn parse(kind: &[u8], offset: &[u8]) -> Result<Field, Fail> {
        let wrong = || Fail::err("Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.");
        let (signed, most) = match kind.first() {
            Some(b'i') => (true, 64),
            Some(b'u') => (false, 63),
            _ => return Err(wrong()),
        };
        let bits = super::number::parse_int(&kind[1..]).filter(|bits| (1..=most).contains(bits));
        let bits = bits.ok_or_else(wrong)? as u32;
        let offset = bit_offset(offset, bits)?;
        Ok(Field { signed, bits, offset })
    }

    /// Bytes of the shortest value that holds all of it.
    fn end(self) -> usize {
        ((self.offset + self.bits as u64 - 1) / 8 + 1) as usize
    }

    /// Its bits are bits [shift, shift + bits) of the number that these (at most nine) bytes are, the first one highest.
    fn place(self) -> (std::ops::Range<usize>, u32) {
        let bytes = (self.offset / 8) as usize..self.end();
        let shift = bytes.len() as u32 * 8 - (self.offset % 8) as u32 - self.bits;
        (bytes, shift)
    }

    fn mask(self) -> u128 {
        (1 << self.bits) - 1
    }

    /// What stands there; behind the value's end there are zeros.
    fn read(self, value: &[u8]) -> i64 {
        let (bytes, shift) = self.place();
        let number = bytes.fold(0u128, |number, at| number << 8 | value.get(at).copied().unwrap_or(0) as u128);
        let raw = (number >> shift & self.mask()) as u64;
        if self.signed {
            let unused = 64 - self.bits;
            (raw << unused) as i64 >> unused
        } else {
            raw as i64
        }
    }

    fn write(self, value: &mut [u8], number: i64) {
        let (bytes, shift) = self.place();
        let place = &mut value[bytes];
        let old = place.iter().fold(0u128, |number, &byte| number << 8 | byte as u128);
        let new = old & !(self.mask() << shift) | (number as u128 & self.mask()) << shift;
        for (distance, byte) in place.iter_mut().rev().enumerate() {
            *byte = (new >> (8 * distance)) as u8;
        }
    }

    /// `number` as the field holds it; None if it does not fit and must.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = if self.signed {
            (-(1i128 << (self.bits - 1)), (1i128 << (self.bits - 1)) - 1)
        } else {
            (0, self.mask() as i128)
        };
        if (least..=most).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(number.clamp(least, most) as i64),
            Overflow::Wrap => Some((least + (number - least).rem_euclid(most - least + 1)) as i64),
        }
    }
}

/// All steps, before any is done.
fn parse(args: &Args) -> Result<Vec<Step>, Fail> {
    let mut overflow = Overflow::Wrap;
    let mut steps = Vec::new();
    let mut at = 2;
    while at < args.len() {
        let (word, left) = (args[at].to_ascii_uppercase(), args.len() - at - 1);
        let (wanted, action): (usize, fn(i64, Overflow) -> Action) = match word.as_slice() {
            b"OVERFLOW" if left >= 1 => {
                overflow = match args[at + 1].to_ascii_uppercase().as_slice() {
                    b"WRAP" => Overflow::Wrap,
                    b"SAT" => Overflow::Saturate,
                    b"FAIL" => Overflow::Fail,
                    _ => return Err(Fail::err("Invalid OVERFLOW type specified")),
                };
                at += 2;
                continue;
            }
            b"GET" => (2, |_, _| Action::Get),
            b"SET" => (3, Action::Set),
            b"INCRBY" => (3, Action::Add),
            _ => return Err(Fail::syntax()),
        };
        if left < wanted {
            return Err(Fail::syntax());
        }
        let field = Field::parse(args[at + 1], args[at + 2])?;
        let number = if wanted == 3 { int_arg(args[at + 3])? } else { 0 };
        steps.push((field, action(number, overflow)));
        at += 1 + wanted;
    }
    Ok(steps)
}

pub fn read_only<V: View>(view: &mut V, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let steps = parse(args)?;
    if steps.iter().any(|(_, action)| !matches!(action, Action::Get)) {
        return Err(Fail::err("BITFIELD_RO only supports the GET subcommand"));
    }
    // Only the bytes from the first field to the last one.
    let first = steps.iter().map(|(field, _)| field.offset / 8).min().unwrap_or(0);
    let last = steps.iter().map(|(field, _)| field.end() as i64 - 1).max().unwrap_or(0);
    view.look(args[1], Part::Range(first as i64, last), |seen| {
        let value = string_of(seen)?.unwrap_or_default();
        out.array(steps.len());
        for (field, _) in &steps {
            let offset = field.offset - first * 8;
            out.int(Field { offset, ..*field }.read(value));
        }
        Ok(())
    })?
}

pub fn run(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let steps = parse(args)?;
    let written = steps.iter().filter(|(_, action)| !matches!(action, Action::Get));
    let Some(bytes) = written.map(|(field, _)| field.end()).max() else {
        return read_only(owner, args, out);
    };
    let entry = string_entry(owner, args[1])?;
    let mut value = grown_value(owner, entry, bytes)?;
    let mut changed = entry.is_none_or(|entry| owner.value(&entry).len() < bytes);
    let mut answers = Vec::with_capacity(steps.len());
    for (field, action) in steps {
        let old = field.read(&value);
        let (new, answer) = match action {
            Action::Get => (None, Some(old)),
            Action::Set(number, overflow) => {
                // For an unsigned field a negative number is a very large one.
                let number = if field.signed { number as i128 } else { number as u64 as i128 };
                let new = field.fit(number, overflow);
                (new, new.map(|_| old))
            }
            Action::Add(by, overflow) => {
                let new = field.fit(old as i128 + by as i128, overflow);
                (new, new)
            }
        };
        if let Some(new) = new.filter(|&new| new != old) {
            field.write(&mut value, new);
            changed = true;
        }
        answers.push(answer);
    }
    if changed {
        replace(owner, args[1], entry, &value)?;
    }
    out.array(answers.len());
    for answer in answers {
        match answer {
            Some(number) => out.int(number),
            None => out.nil(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::testing::Random;

    fn field(signed: bool, bits: u32, offset: u64) -> Field {
        Field { signed, bits, offset }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_changes() {
        let mut random = Random(3);
        for _ in 0..5000 {
            let signed = random.below(2) == 0;
            let field = field(
                signed,
                1 + random.below(if signed { 64 } else { 63 }) as u32,
                random.below(100),
            );
            let before: Vec<u8> = (0..field.end() + 2).map(|_| random.number() as u8).collect();
            let mut value = before.clone();
            let number = field.fit(random.number() as i64 as i128, Overflow::Wrap).unwrap();
            field.write(&mut value, number);
            assert_eq!(field.read(&value), number, "{field:?}");
            let bit = |value: &[u8], at: u64| value[(at / 8) as usize] >> (7 - at % 8) & 1;
            for at in (0..value.len() as u64 * 8).filter(|at| !(field.offset..field.offset + field.bits as u64).contains(at)) {
                assert_eq!(bit(&value, at), bit(&before, at), "{field:?} changed bit {at}");
            }
        }
    }

    #[test]
    fn overflow_goes_as_asked() {
        let fit = |signed, bits, number| {
            [Overflow::Wrap, Overflow::Saturate, Overflow::Fail].map(|overflow| field(signed, bits, 0).fit(number, overflow))
        };
        assert_eq!(fit(false, 8, 256), [Some(0), Some(255), None]);
        assert_eq!(fit(false, 8, -1), [Some(255), Some(0), None]);
        assert_eq!(fit(true, 8, 128), [Some(-128), Some(127), None]);
        assert_eq!(fit(true, 8, -129), [Some(127), Some(-128), None]);
        assert_eq!(fit(true, 1, 1), [Some(-1), Some(0), None]);
        assert_eq!(fit(true, 64, i64::MAX as i128 + 1), [Some(i64::MIN), Some(i64::MAX), None]);
        assert_eq!(fit(true, 64, i64::MIN as i128 * 2), [Some(0), Some(i64::MIN), None]);
        assert_eq!(fit(false, 63, 1 << 63), [Some(0), Some(i64::MAX), None]);
        assert_eq!(fit(false, 63, i64::MAX as i128), [Some(i64::MAX); 3]);
    }

    #[test]
    fn fields_behind_the_end_are_zero() {
        assert_eq!(field(true, 64, 3).read(b""), 0);
        assert_eq!(field(false, 16, 4).read(b"\x0f"), 0xf000);
    }
}
