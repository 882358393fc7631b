//! A batch as it comes from the wire: msgpack array of commands in, msgpack array of results out.

use super::reply::Sink;
use super::table::{self, FAMILIES};
use super::{resolve, Fail};
use crate::owner::Owner;
use hdrhistogram::Histogram;
use rmp::Marker;
use smallvec::SmallVec;
use std::time::Instant;

pub const FLAG_TRANSACTION: u32 = 1;
pub const FLAG_READ_ONLY: u32 = 2;
/// One batch must not hold the shard for long.
pub const MAX_BATCH_COMMANDS: usize = 16_384;
const MAX_ARGUMENTS: usize = 1 << 20;

/// The payload is not what `docs/protocol.md` describes.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Latencies of execution per family, ns.
pub struct Latencies {
    families: Vec<Histogram<u32>>,
}

impl Default for Latencies {
    fn default() -> Latencies {
        // Two significant digits, up to a minute.
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("constant bounds are valid");
        Latencies {
            families: FAMILIES.iter().map(|_| histogram()).collect(),
        }
    }
}

impl Latencies {
    #[inline]
    fn record(&mut self, family: usize, nanoseconds: u64) {
        self.families[family].saturating_record(nanoseconds.max(1));
    }

    /// (family, count, p50, p99, p99.9, max), ns.
    pub fn summary(&self) -> Vec<(&'static str, [u64; 5])> {
        FAMILIES
            .iter()
            .zip(&self.families)
            .map(|(&name, histogram)| {
                let at = |quantile| histogram.value_at_quantile(quantile);
                (name, [histogram.len(), at(0.5), at(0.99), at(0.999), histogram.max()])
            })
            .collect()
    }
}

enum Argument {
    /// Bytes of the payload.
    Payload(usize, usize),
    /// Bytes of the arena: numbers written out.
    Arena(usize, usize),
}

struct Decoder<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    #[inline]
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let end = self
            .at
            .checked_add(bytes)
            .filter(|&end| end <= self.data.len())
            .ok_or(Malformed("it ends in the middle"))?;
        let taken = &self.data[self.at..end];
        self.at = end;
        Ok(taken)
    }

    #[inline]
    fn number(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |number, &byte| number << 8 | byte as u64))
    }

    #[inline]
    fn marker(&mut self) -> Result<Marker, Malformed> {
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    #[inline]
    fn array(&mut self) -> Result<usize, Malformed> {
        Ok(match self.marker()? {
            Marker::FixArray(length) => length as usize,
            Marker::Array16 => self.number(2)? as usize,
            Marker::Array32 => self.number(4)? as usize,
            _ => return Err(Malformed("an array was expected")),
        })
    }

    #[inline]
    fn argument(&mut self, arena: &mut Vec<u8>) -> Result<Argument, Malformed> {
        let length = match self.marker()? {
            Marker::FixStr(length) => length as usize,
            Marker::Bin8 | Marker::Str8 => self.number(1)? as usize,
            Marker::Bin16 | Marker::Str16 => self.number(2)? as usize,
            Marker::Bin32 | Marker::Str32 => self.number(4)? as usize,
            number => {
                let start = arena.len();
                let mut digits = itoa::Buffer::new();
                let text = match number {
                    Marker::FixPos(value) => digits.format(value),
                    Marker::FixNeg(value) => digits.format(value),
                    Marker::U8 => digits.format(self.number(1)?),
                    Marker::U16 => digits.format(self.number(2)?),
                    Marker::U32 => digits.format(self.number(4)?),
                    Marker::U64 => digits.format(self.number(8)?),
                    Marker::I8 => digits.format(self.number(1)? as i8),
                    Marker::I16 => digits.format(self.number(2)? as i16),
                    Marker::I32 => digits.format(self.number(4)? as i32),
                    Marker::I64 => digits.format(self.number(8)? as i64),
                    Marker::F64 => {
                        let value = f64::from_bits(self.number(8)?);
                        arena.extend_from_slice(super::number::format_float(value).as_bytes());
                        ""
                    }
                    _ => return Err(Malformed("an argument must be bin, str, int or float")),
                };
                arena.extend_from_slice(text.as_bytes());
                return Ok(Argument::Arena(start, arena.len()));
            }
        };
        let start = self.at;
        self.take(length)?;
        Ok(Argument::Payload(start, self.at))
    }
}

/// One command of a batch: the range of its arguments.
type Parsed = (Vec<Argument>, Vec<usize>, Vec<u8>);

/// Decode a whole batch before anything of it runs: a malformed one changes nothing.
fn parse(payload: &[u8]) -> Result<Parsed, Malformed> {
    let mut decoder = Decoder { data: payload, at: 0 };
    let commands = decoder.array()?;
    if commands > MAX_BATCH_COMMANDS {
        return Err(Malformed("the batch has more than 16384 commands"));
    }
    let mut arguments = Vec::with_capacity((commands * 3).min(payload.len()));
    let mut ends = Vec::with_capacity(commands.min(payload.len()));
    let mut arena = Vec::new();
    for _ in 0..commands {
        let count = decoder.array()?;
        if count == 0 || count > MAX_ARGUMENTS {
            return Err(Malformed("a command must have 1 to 1048576 arguments"));
        }
        for _ in 0..count {
            arguments.push(decoder.argument(&mut arena)?);
        }
        ends.push(arguments.len());
    }
    if decoder.at != payload.len() {
        return Err(Malformed("something follows the batch"));
    }
    Ok((arguments, ends, arena))
}

impl Owner {
    /// Run a batch. The reply's array has one result per command, in order.
    pub fn execute(&mut self, payload: &[u8], flags: u32, latencies: &mut Latencies) -> Result<Vec<u8>, Malformed> {
        self.run_batch(payload, flags, latencies, None)
    }

    /// Run a batch as a transaction that is not committed but prepared (`owner/prepared.rs`), unless it is refused as a whole: `prepared` tells.
    pub fn prepare(
        &mut self,
        payload: &[u8],
        flags: u32,
        token: u64,
        decider: u64,
        latencies: &mut Latencies,
    ) -> Result<Vec<u8>, Malformed> {
        self.run_batch(payload, flags | FLAG_TRANSACTION, latencies, Some((token, decider)))
    }

    fn run_batch(
        &mut self,
        payload: &[u8],
        flags: u32,
        latencies: &mut Latencies,
        prepares: Option<(u64, u64)>,
    ) -> Result<Vec<u8>, Malformed> {
        let (arguments, ends, arena) = parse(payload)?;
        self.set_time();
        let mut out = Vec::with_capacity(64 + ends.len() * 16);
        out.array(ends.len());
        let transaction = flags & FLAG_TRANSACTION != 0;
        if transaction {
            self.open_group();
        }
        let mut start = 0;
        let mut begun = Instant::now();
        let mut aborted = None;
        for (number, &end) in ends.iter().enumerate() {
            let args: SmallVec<[&[u8]; 8]> = arguments[start..end]
                .iter()
                .map(|argument| match *argument {
                    Argument::Payload(from, to) => &payload[from..to],
                    Argument::Arena(from, to) => &arena[from..to],
                })
                .collect();
            start = end;
            match resolve(&args) {
                Ok(spec) if flags & FLAG_READ_ONLY != 0 && spec.flags & table::WRITE != 0 => self.refuse(
                    Fail::new("READONLY", format!("{} writes; the batch is flagged read-only", spec.name)),
                    &mut out,
                ),
                result if transaction && number == 0 && is_check(&args) => {
                    let checked = result.and_then(|spec| self.try_run(spec, &args, &mut out));
                    self.unpin();
                    if let Err(fail) = checked {
                        aborted = Some(fail);
                        break;
                    }
                }
                Ok(spec) => {
                    self.run(spec, &args, &mut out);
                    let now = Instant::now();
                    latencies.record(spec.family, (now - begun).as_nanos() as u64);
                    begun = now;
                }
                Err(fail) => self.refuse(fail, &mut out),
            }
        }
        if transaction {
            if aborted.is_some() {
                self.abandon_group();
                self.counters.errors += 1;
            } else {
                let done = match prepares {
                    None => self.commit_group(),
                    Some((token, decider)) => self.prepare_group(token, decider),
                };
                aborted = done.err().map(Fail::from);
            }
            if let Some(fail) = aborted {
                // Nothing of it was done: every command says so.
                out.clear();
                out.array(ends.len());
                for _ in &ends {
                    out.error(fail.code, &fail.message);
                }
            }
        }
        self.counters.commands += ends.len() as u64;
        self.counters.batches += 1;
        self.publish_gauges();
        Ok(out)
    }

    fn refuse(&mut self, fail: Fail, out: &mut impl Sink) {
        self.counters.errors += 1;
        out.error(fail.code, &fail.message);
    }
}

/// A check at the head of a transaction decides about all of it.
fn is_check(args: &[&[u8]]) -> bool {
    args[0].eq_ignore_ascii_case(b"CHECKSTAMP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_batches_are_refused_whole() {
        for payload in [
            &b""[..],
            b"\x91",
            b"\x91\x90",
            b"\xc0",
            b"\x91\x91\xc0",
            b"\x91\x91\xc4\x05ab",
            b"\x90\x00",
            b"\xdd\xff\xff\xff\xff",
            b"\x91\xdd\xff\xff\xff\xff",
        ] {
            assert!(parse(payload).is_err(), "{payload:?}");
        }
        assert!(parse(b"\x90").is_ok());
    }
}
