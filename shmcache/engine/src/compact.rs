//! The value of a small collection: everything in one entry.
//!
//! ```text
//! 0      4       8
//! | form | count | elements …
//!
//! hash: field, value, field, value …    list: element …    set: member …    sorted set: score (8 bytes), member … in order
//! ```
//! Each string is its length as a LEB128 number, then its bytes. A score is a little-endian 64-bit float. What is read here may come from a region
//! that another program damaged: then the walk ends early, and nothing else happens.

use crate::owner::collections::FORM_COMPACT;

const HEADER_BYTES: usize = 8;

/// A compact value, being read.
#[derive(Clone, Copy)]
pub struct Compact<'a> {
    /// Elements as the header says; a hash's fields count once.
    pub count: usize,
    body: &'a [u8],
}

fn take_length(body: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0usize;
    for (index, &byte) in body.iter().take(5).enumerate() {
        length |= ((byte & 0x7f) as usize) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, index + 1));
        }
    }
    None
}

#[inline]
fn take_string(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, used) = match *body.first()? {
        // Nearly all are short.
        byte if byte < 0x80 => (byte as usize, 1),
        _ => take_length(body)?,
    };
    let end = used.checked_add(length).filter(|&end| end <= body.len())?;
    Some((&body[used..end], &body[end..]))
}

/// Names of one collection often differ in their last byte only: it saves most comparisons of the rest.
#[inline(always)]
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.last() == other.last() && one == other
}

impl<'a> Compact<'a> {
    pub fn parse(value: &'a [u8]) -> Option<Compact<'a>> {
        if value.len() < HEADER_BYTES || value[0] != FORM_COMPACT {
            return None;
        }
        let count = u32::from_le_bytes(value[4..8].try_into().expect("four bytes")) as usize;
        Some(Compact {
            count,
            body: &value[HEADER_BYTES..],
        })
    }

    /// All strings in their order: of a list or set.
    pub fn strings(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let (string, after) = take_string(rest)?;
            rest = after;
            Some(string)
        })
    }

    /// Fields and values of a hash.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let (field, after) = take_string(rest)?;
            let (value, after) = take_string(after)?;
            rest = after;
            Some((field, value))
        })
    }

    /// Scores and members of a sorted set, in order.
    pub fn scored(&self) -> impl Iterator<Item = (f64, &'a [u8])> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let score = f64::from_le_bytes(rest.get(..8)?.try_into().ok()?);
            let (member, after) = take_string(&rest[8..])?;
            rest = after;
            Some((score, member))
        })
    }

    /// A field's value in a hash.
    pub fn field(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.pairs().find(|(field, _)| same(field, name)).map(|(_, value)| value)
    }

    pub fn has_member(&self, name: &[u8]) -> bool {
        self.strings().any(|member| same(member, name))
    }

    /// A member's score. The hottest read of sorted sets: nearly all members are told from the wanted one by their length or last byte.
    pub fn score(&self, name: &[u8]) -> Option<f64> {
        let mut rest = self.body;
        loop {
            let length = *rest.get(8)? as usize;
            let (member, after) = if length < 0x80 {
                let end = 9 + length;
                if end > rest.len() {
                    return None;
                }
                (&rest[9..end], &rest[end..])
            } else {
                take_string(&rest[8..])?
            };
            if member.len() == name.len() && member.last() == name.last() && member == name {
                return Some(f64::from_le_bytes(rest[..8].try_into().expect("eight bytes")));
            }
            rest = after;
        }
    }
}

/// A compact value, being written.
pub struct Builder {
    bytes: Vec<u8>,
    count: u32,
}

impl Builder {
    /// With room for `bytes` of elements.
    pub fn with_room(bytes: usize) -> Builder {
        let mut all = Vec::with_capacity(HEADER_BYTES + bytes);
        all.extend_from_slice(&[FORM_COMPACT, 0, 0, 0, 0, 0, 0, 0]);
        Builder { bytes: all, count: 0 }
    }

    fn put(&mut self, string: &[u8]) {
        let mut length = string.len();
        while length >= 0x80 {
            self.bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.bytes.push(length as u8);
        self.bytes.extend_from_slice(string);
    }

    /// An element of a list or a member of a set.
    #[inline]
    pub fn string(&mut self, string: &[u8]) {
        self.put(string);
        self.count += 1;
    }

    #[inline]
    pub fn pair(&mut self, field: &[u8], value: &[u8]) {
        self.put(field);
        self.put(value);
        self.count += 1;
    }

    /// A member with its score. Minus zero becomes zero, as in Redis' small sorted sets.
    #[inline]
    pub fn scored(&mut self, score: f64, member: &[u8]) {
        self.bytes.extend_from_slice(&(score + 0.0).to_le_bytes());
        self.put(member);
        self.count += 1;
    }

    pub fn count(&self) -> usize {
        self.count as usize
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[4..8].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let long = vec![7; 300];
        let mut builder = Builder::with_room(16);
        builder.pair(b"a", b"");
        builder.pair(b"", &long);
        let value = builder.finish();
        let compact = Compact::parse(&value).unwrap();
        assert_eq!(compact.count, 2);
        assert_eq!(compact.field(b""), Some(&long[..]));
        assert_eq!(compact.field(b"b"), None);
        let mut builder = Builder::with_room(16);
        builder.scored(-1.5, b"x");
        let value = builder.finish();
        assert_eq!(Compact::parse(&value).unwrap().score(b"x"), Some(-1.5));
        let mut builder = Builder::with_room(16);
        for (score, member) in [(-0.0, &b""[..]), (1.0, b"ab"), (2.0, &long), (3.0, b"cb")] {
            builder.scored(score, member);
        }
        let value = builder.finish();
        let zset = Compact::parse(&value).unwrap();
        assert_eq!(
            [&b""[..], b"ab", &long, b"cb"].map(|member| zset.score(member)),
            [Some(0.0), Some(1.0), Some(2.0), Some(3.0)]
        );
        assert_eq!((zset.score(b"xb"), zset.score(b"a")), (None, None));
        for cut in 8..value.len() {
            assert_eq!(Compact::parse(&value[..cut]).unwrap().score(b"cb"), None);
        }
    }

    #[test]
    fn damaged_values_end_early() {
        let mut builder = Builder::with_room(16);
        builder.string(&[1; 200]);
        builder.string(b"second");
        let value = builder.finish();
        for cut in 0..value.len() {
            if let Some(compact) = Compact::parse(&value[..cut]) {
                assert!(compact.strings().count() < 2);
            }
        }
        assert!(Compact::parse(b"").is_none());
        let wild = [FORM_COMPACT, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(Compact::parse(&wild).unwrap().strings().count(), 0);
    }
}
