//! DUMP and RESTORE: a key's value, of any kind, as bytes that another shard or instance takes.
//!
//! ```text
//! | version (1) | kind (1) | body | CRC-32C of all before it (4, little-endian) |
//!
//! string: its bytes    hash: field, value, deadline …    list: element …    set: member …    sorted set: score (8, little-endian), member …
//! ```
//! A string in a body is its length as a LEB128 number, then its bytes; a deadline is unix ms as a LEB128 number, 0 = none. The key's own deadline is
//! not in it.

use super::number::int_arg;
use super::reply::Sink;
use super::table::Command;
use super::write::invalid_expire;
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::collections::score_sort;
use crate::owner::large::{score_of, Element};
use crate::owner::Owner;
use std::collections::HashSet;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 2;
const CRC_BYTES: usize = 4;

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    if command == Command::Restore {
        return restore(owner, args, out);
    }
    match dump(owner, args[1]) {
        Some(payload) => out.bytes(&payload),
        None => out.nil(),
    }
    Ok(())
}

pub fn dump(owner: &mut Owner, key: &[u8]) -> Option<Vec<u8>> {
    let entry = owner.access(key)?;
    let kind = entry.meta.kind();
    let mut payload = vec![VERSION, kind as u8];
    if kind.is_collection() {
        for element in owner.elements(key, kind, entry) {
            match kind {
                Kind::Hash => {
                    put(&mut payload, &element.name);
                    put(&mut payload, &element.value);
                    put_number(&mut payload, element.deadline);
                }
                Kind::List => put(&mut payload, &element.value),
                Kind::Zset => {
                    payload.extend_from_slice(&score_of(&element.value).to_le_bytes());
                    put(&mut payload, &element.name);
                }
                _ => put(&mut payload, &element.name),
            }
        }
    } else {
        payload.extend_from_slice(owner.value(&entry));
    }
    let crc = crc32c::crc32c(&payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    Some(payload)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put(out: &mut Vec<u8>, string: &[u8]) {
    put_number(out, string.len() as u64);
    out.extend_from_slice(string);
}

struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        if count > self.0.len() {
            return None;
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            number |= ((byte & 0x7f) as u64) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.number()?).ok()?;
        self.bytes(length).map(<[u8]>::to_vec)
    }

    fn score(&mut self) -> Option<f64> {
        let score = f64::from_le_bytes(self.bytes(8)?.try_into().ok()?);
        (!score.is_nan()).then_some(score)
    }

    /// All elements of a collection; None if they are not such.
    fn elements(&mut self, kind: Kind) -> Option<Vec<Element>> {
        let mut elements = Vec::new();
        while !self.0.is_empty() {
            let mut element = Element::default();
            match kind {
                Kind::Hash => {
                    element.name = self.string()?;
                    element.value = self.string()?;
                    element.deadline = self.number()?;
                }
                Kind::List => element.value = self.string()?,
                Kind::Zset => {
                    element.value = self.score()?.to_le_bytes().to_vec();
                    element.name = self.string()?;
                }
                _ => element.name = self.string()?,
            }
            elements.push(element);
        }
        if kind != Kind::List {
            let mut names = HashSet::with_capacity(elements.len());
            if !elements.iter().all(|element| names.insert(&element.name)) {
                return None;
            }
        }
        if kind == Kind::Zset {
            let place = |element: &Element| score_sort(score_of(&element.value));
            elements.sort_by(|one, other| place(one).cmp(&place(other)).then_with(|| one.name.cmp(&other.name)));
        }
        (!elements.is_empty()).then_some(elements)
    }
}

/// Kind and body of a payload that is what DUMP made.
fn parse(payload: &[u8]) -> Option<(Kind, &[u8])> {
    let at = payload.len().checked_sub(CRC_BYTES).filter(|&at| at >= HEADER_BYTES)?;
    let (data, crc) = payload.split_at(at);
    if data[0] != VERSION || crc32c::crc32c(data).to_le_bytes() != crc {
        return None;
    }
    let kind = Kind::from_code(data[1]).filter(|&kind| kind == Kind::String || kind.is_collection())?;
    Some((kind, &data[HEADER_BYTES..]))
}

struct Options {
    replace: bool,
    absolute: bool,
}

/// IDLETIME and FREQ are checked and have no effect: neither is kept for a single key.
fn options_of(args: &[&[u8]]) -> Result<Options, Fail> {
    let mut options = Options {
        replace: false,
        absolute: false,
    };
    let (mut idle, mut frequency) = (false, false);
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        match word.to_ascii_lowercase().as_slice() {
            b"replace" => options.replace = true,
            b"absttl" => options.absolute = true,
            b"idletime" if !frequency && !rest.as_slice().is_empty() => {
                idle = true;
                if int_arg(rest.next().expect("it is there"))? < 0 {
                    return Err(Fail::err("Invalid IDLETIME value, must be >= 0"));
                }
            }
            b"freq" if !idle && !rest.as_slice().is_empty() => {
                frequency = true;
                if !(0..=255).contains(&int_arg(rest.next().expect("it is there"))?) {
                    return Err(Fail::err("Invalid FREQ value, must be >= 0 and <= 255"));
                }
            }
            _ => return Err(Fail::syntax()),
        }
    }
    Ok(options)
}

fn restore(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let (key, payload) = (args[1], args[3]);
    let options = options_of(&args[4..])?;
    let taken = owner.lookup(key).is_some();
    if taken && !options.replace {
        return Err(Fail::new("BUSYKEY", "Target key name already exists."));
    }
    let ttl = int_arg(args[2])?;
    if ttl < 0 {
        return Err(Fail::err("Invalid TTL value, must be >= 0"));
    }
    let deadline = match ttl as u64 {
        0 => 0,
        at if options.absolute => at,
        ttl => ttl
            .checked_add(owner.now_ms)
            .filter(|&at| at <= i64::MAX as u64)
            .ok_or_else(|| invalid_expire("restore"))?,
    };
    let (kind, body) = parse(payload).ok_or_else(|| Fail::err("DUMP payload version or checksum are wrong"))?;
    let elements = if kind == Kind::String {
        Vec::new()
    } else {
        Body(body).elements(kind).ok_or_else(|| Fail::err("Bad data format"))?
    };
    let now = owner.now_ms;
    let live: Vec<Element> = elements
        .into_iter()
        .filter(|element| element.deadline == 0 || element.deadline > now)
        .collect();
    if deadline != 0 && deadline <= now || kind != Kind::String && live.is_empty() {
        owner.remove(key);
    } else if kind == Kind::String {
        owner.put(key, kind, body, deadline)?;
    } else {
        owner.store(key, kind, &live, deadline)?;
    }
    out.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_payloads_are_told() {
        let good = {
            let mut data = vec![VERSION, Kind::List as u8];
            put(&mut data, b"element");
            data.extend_from_slice(&crc32c::crc32c(&data).to_le_bytes());
            data
        };
        let (kind, body) = parse(&good).unwrap();
        assert_eq!(kind, Kind::List);
        assert_eq!(Body(body).elements(kind).unwrap()[0].value, b"element");
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_none());
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(parse(&bad).is_none());
        }
        for body in [
            &b""[..],
            b"\x05abc",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x01a\x01a",
        ] {
            assert!(Body(body).elements(Kind::Set).is_none(), "{body:?}");
        }
        assert!(Body(b"\x01a\x01b").elements(Kind::Hash).is_none());
        assert!(Body(&[f64::NAN.to_le_bytes().as_slice(), b"\x01a"].concat())
            .elements(Kind::Zset)
            .is_none());
    }
}
