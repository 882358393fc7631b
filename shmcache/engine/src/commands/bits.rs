//! Bitmaps: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Bit 0 is the highest of the first byte.

use super::number::{int_arg, parse_int};
use super::read::{string_of, Part, View};
use super::reply::Sink;
use super::table::Command;
use super::write::{grown_value, replace, string_entry};
use super::{expect_string, Args, Fail};
use crate::layout::{Kind, MAX_VALUE_BYTES};
use crate::owner::Owner;

/// The number of a bit that a value can have; `#n` is the n-th field of `field_bits` bits, if that is not 0.
pub fn bit_offset(text: &[u8], field_bits: u32) -> Result<u64, Fail> {
    let number = match text.strip_prefix(b"#") {
        Some(index) if field_bits != 0 => parse_int(index).and_then(|index| index.checked_mul(field_bits as i64)),
        _ => parse_int(text),
    };
    number
        .and_then(|offset| u64::try_from(offset).ok())
        .filter(|offset| offset / 8 < MAX_VALUE_BYTES as u64)
        .ok_or_else(|| Fail::err("bit offset is not an integer or out of range"))
}

pub fn read<V: View>(view: &mut V, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Getbit => {
            let offset = bit_offset(args[2], 0)?;
            let byte = (offset / 8) as i64;
            let bit = view.look(args[1], Part::Range(byte, byte), |seen| {
                let value = string_of(seen)?.unwrap_or_default();
                Ok::<bool, Fail>(value.first().is_some_and(|byte| byte >> (7 - offset % 8) & 1 == 1))
            })??;
            out.flag(bit);
        }
        Command::Bitcount => {
            let count = over_range(view, args[1], range_of_bitcount(&args[2..]), count_ones)?;
            out.int(count.unwrap_or(0) as i64);
        }
        Command::Bitpos => {
            let wanted = match int_arg(args[2])? {
                0 => false,
                1 => true,
                _ => return Err(Fail::err("The bit argument must be 1 or 0.")),
            };
            // Without an end the value is thought to be followed by zeros.
            let goes_on = !wanted && args.len() < 5;
            let search = |value: &[u8], first, end| match first_bit(value, wanted, first, end) {
                None if goes_on && first < end => Some(end),
                found => found,
            };
            let position = over_range(view, args[1], range_of_bitpos(&args[3..]), search)?;
            out.int(match position {
                None => -(wanted as i64),
                Some(None) => -1,
                Some(Some(position)) => position as i64,
            });
        }
        other => unreachable!("{other:?} reads no bits"),
    }
    Ok(())
}

/// First and last of the bytes or bits that are meant, negative from the end.
struct Range {
    start: i64,
    end: i64,
    in_bits: bool,
}

impl Range {
    /// The bytes that hold them, and maybe more.
    fn part(&self) -> Part {
        let shift = if self.in_bits { 3 } else { 0 };
        let (start, end) = (self.start >> shift, self.end >> shift);
        // GETRANGE takes these for nothing; some bits commands clamp first.
        if start < 0 && end < 0 && start > end {
            Part::All
        } else {
            Part::Range(start, end)
        }
    }

    /// Bits [first, end) of a value of `bytes` bytes. Empty if first >= end.
    fn bits(&self, bytes: u64) -> (u64, u64) {
        let unit = if self.in_bits { 1 } else { 8 };
        let total = bytes as i64 * 8 / unit;
        let clamp = |end: i64| if end < 0 { (total + end).max(0) } else { end };
        let (first, end) = (clamp(self.start).min(total), clamp(self.end).min(total - 1) + 1);
        ((first * unit) as u64, (end * unit) as u64)
    }
}

/// Answer of `visit` for the value and the bits of the range; None without a key. Bits are counted from the value's first one.
///
/// As Redis: what is wrong with a range is told only if there is a key.
fn over_range<V: View, T: Shifted>(
    view: &mut V,
    key: &[u8],
    range: Result<Range, Fail>,
    visit: impl FnOnce(&[u8], u64, u64) -> T,
) -> Result<Option<T>, Fail> {
    let part = range.as_ref().map_or(Part::Nothing, Range::part);
    view.look(key, part, |seen| {
        let Some(seen) = seen else { return Ok(None) };
        expect_string(seen.kind_code)?;
        let (first, end) = range?.bits(seen.total);
        if first >= end {
            return Ok(Some(visit(&[], 0, 0)));
        }
        let before = part.of(seen.total).0 * 8;
        Ok(Some(visit(seen.value, first - before, end - before).shifted(before)))
    })?
}

/// What an answer is when `bits` are put before the value.
trait Shifted {
    fn shifted(self, bits: u64) -> Self;
}

/// A count.
impl Shifted for u64 {
    fn shifted(self, _: u64) -> u64 {
        self
    }
}

/// A position.
impl Shifted for Option<u64> {
    fn shifted(self, bits: u64) -> Option<u64> {
        self.map(|position| position + bits)
    }
}

/// BYTE or BIT: whether it is BIT.
fn unit_arg(text: &[u8]) -> Result<bool, Fail> {
    match () {
        _ if text.eq_ignore_ascii_case(b"bit") => Ok(true),
        _ if text.eq_ignore_ascii_case(b"byte") => Ok(false),
        _ => Err(Fail::syntax()),
    }
}

fn range_of_bitcount(range: &Args) -> Result<Range, Fail> {
    let (start, end) = match range {
        [] => (0, -1),
        [start, end] | [start, end, _] => (int_arg(start)?, int_arg(end)?),
        _ => return Err(Fail::syntax()),
    };
    // As Redis: nothing, before a wrong unit is told and where clamping would make the ends meet.
    if start < 0 && end < 0 && start > end {
        return Ok(Range {
            start: 1,
            end: 0,
            in_bits: false,
        });
    }
    let in_bits = range.get(2).map_or(Ok(false), |unit| unit_arg(unit))?;
    Ok(Range { start, end, in_bits })
}

fn range_of_bitpos(range: &Args) -> Result<Range, Fail> {
    let (start, end, in_bits) = match range {
        [] => (0, -1, false),
        [start] => (int_arg(start)?, -1, false),
        [start, end] => (int_arg(start)?, int_arg(end)?, false),
        [start, end, unit] => {
            let (start, in_bits) = (int_arg(start)?, unit_arg(unit)?);
            (start, int_arg(end)?, in_bits)
        }
        _ => return Err(Fail::syntax()),
    };
    Ok(Range { start, end, in_bits })
}

/// How many of the bits [first, end) are set.
fn count_ones(value: &[u8], first: u64, end: u64) -> u64 {
    if first >= end {
        return 0;
    }
    let (first_byte, last_byte) = ((first / 8) as usize, ((end - 1) / 8) as usize);
    let bytes = &value[first_byte..=last_byte];
    let mut words = bytes.chunks_exact(8);
    let whole: u64 = words
        .by_ref()
        .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")).count_ones() as u64)
        .sum();
    let rest: u64 = words.remainder().iter().map(|byte| byte.count_ones() as u64).sum();
    let before = value[first_byte] & !(0xff >> (first % 8));
    let behind = value[last_byte] & (0x7f >> ((end - 1) % 8));
    whole + rest - before.count_ones() as u64 - behind.count_ones() as u64
}

fn first_bit(value: &[u8], wanted: bool, first: u64, end: u64) -> Option<u64> {
    let mut at = first;
    let dull = if wanted { 0 } else { 0xff };
    while at < end {
        let byte = value[(at / 8) as usize];
        if at.is_multiple_of(8) && byte == dull {
            let bytes = &value[(at / 8) as usize..];
            at += 8 * bytes.iter().take_while(|&&byte| byte == dull).count() as u64;
            continue;
        }
        if (byte >> (7 - at % 8) & 1 == 1) == wanted {
            return Some(at);
        }
        at += 1;
    }
    None
}

pub fn write(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Setbit => setbit(owner, args, out),
        Command::Bitop => bitop(owner, args, out),
        other => unreachable!("{other:?} writes no bits"),
    }
}

fn setbit(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let offset = bit_offset(args[2], 0)?;
    let on = match args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(Fail::err("bit is not an integer or out of range")),
    };
    let entry = string_entry(owner, args[1])?;
    let (byte, mask) = ((offset / 8) as usize, 0x80 >> (offset % 8));
    let old = entry.and_then(|entry| owner.value(&entry).get(byte).copied());
    let was = old.is_some_and(|old| old & mask != 0);
    // A bit that is so already needs no write.
    if old.is_none() || was != on {
        let mut value = grown_value(owner, entry, byte + 1)?;
        value[byte] = if on { value[byte] | mask } else { value[byte] & !mask };
        replace(owner, args[1], entry, &value)?;
    }
    out.flag(was);
    Ok(())
}

fn bitop(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let operation: Option<fn(u8, u8) -> u8> = match args[1].to_ascii_uppercase().as_slice() {
        b"AND" => Some(|one, other| one & other),
        b"OR" => Some(|one, other| one | other),
        b"XOR" => Some(|one, other| one ^ other),
        b"NOT" => None,
        _ => return Err(Fail::syntax()),
    };
    if operation.is_none() && args.len() != 4 {
        return Err(Fail::err("BITOP NOT must be called with a single source key."));
    }
    let mut longest = 0;
    for key in &args[3..] {
        if let Some(entry) = string_entry(owner, key)? {
            longest = longest.max(owner.value(&entry).len());
        }
    }
    let entry = string_entry(owner, args[3])?;
    let mut result = grown_value(owner, entry, longest)?;
    match operation {
        None => result.iter_mut().for_each(|byte| *byte = !*byte),
        Some(operation) => {
            for key in &args[4..] {
                let entry = string_entry(owner, key)?;
                let other = entry.map_or(&b""[..], |entry| owner.value(&entry));
                let (shared, rest) = result.split_at_mut(other.len());
                shared
                    .iter_mut()
                    .zip(other)
                    .for_each(|(byte, other)| *byte = operation(*byte, *other));
                rest.iter_mut().for_each(|byte| *byte = operation(*byte, 0));
            }
        }
    }
    if result.is_empty() {
        owner.remove(args[2]);
    } else {
        owner.put(args[2], Kind::String, &result, 0)?;
    }
    out.int(result.len() as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::testing::Random;

    #[test]
    fn counting_and_searching_agree_with_bit_by_bit() {
        let mut random = Random(7);
        for _ in 0..2000 {
            let dense = random.below(3);
            let value: Vec<u8> = (0..random.below(40))
                .map(|_| match dense {
                    0 => 0,
                    1 => 0xff,
                    _ => random.number() as u8,
                })
                .collect();
            let bits = value.len() as u64 * 8;
            let first = random.below(bits + 1);
            let end = first + random.below(bits - first + 1);
            let bit = |at: u64| value[(at / 8) as usize] >> (7 - at % 8) & 1 == 1;
            assert_eq!(
                count_ones(&value, first, end),
                (first..end).filter(|&at| bit(at)).count() as u64
            );
            for wanted in [false, true] {
                let expected = (first..end).find(|&at| bit(at) == wanted);
                assert_eq!(first_bit(&value, wanted, first, end).filter(|&at| at < end), expected);
            }
        }
    }

    #[test]
    fn offsets_end_where_values_do() {
        let last = MAX_VALUE_BYTES as u64 * 8 - 1;
        assert_eq!(bit_offset(last.to_string().as_bytes(), 0).unwrap(), last);
        assert!(bit_offset((last + 1).to_string().as_bytes(), 0).is_err());
        assert_eq!(bit_offset(b"#3", 7).unwrap(), 21);
        for wrong in ["#3", "-1", "", "#", "1x"] {
            assert!(bit_offset(wrong.as_bytes(), 0).is_err(), "{wrong}");
        }
        assert!(bit_offset(b"#9223372036854775807", 64).is_err());
    }
}
