//! The gateway's way to the shards: commands of the Redis protocol to the messages' msgpack, and the results' msgpack to the Redis protocol,
//! many at a time and without an object for each.
//!
//! Only what is plain is taken: commands with keys in one shard, named by the caller, whose replies need no look at what was asked. All else is left
//! to the caller, who goes on where this ends.

use crate::commands::reply::{Sink, ERROR_EXTENSION};
use crate::commands::resolve;
use crate::commands::table::{self, Spec, COMMANDS};
use crate::resp::{next_command, RespSink};
use crate::slots::slot_of;

/// Arrays in arrays that a result may have.
const DEPTH_MAX: usize = 32;

/// Which commands are taken, and where their keys lie.
pub struct Packer {
    /// Slot -> shard.
    slots: Vec<u16>,
    shards: usize,
    /// By the command's number, for RESP2 and RESP3: most arguments with which it is taken, the name included; 0: not at all.
    taken: [Vec<u32>; 2],
}

/// Commands for one shard.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub shard: u16,
    /// Of the first key.
    pub slot: u16,
    pub count: u32,
    /// Whether any of them writes.
    pub writes: bool,
    /// The commands as msgpack, without the array around them.
    pub body: Vec<u8>,
}

pub struct Packed {
    /// Where the first command begins that was not taken.
    pub end: usize,
    pub parts: Vec<Part>,
    /// For each command the number of its part; empty if there is only one part.
    pub order: Vec<u16>,
}

impl Packer {
    /// `taken`: for RESP2 and RESP3 names and most arguments (0: any number). The table of slots names shards below `shards` only.
    pub fn new(slots: Vec<u16>, shards: usize, taken: [&[(String, u32)]; 2]) -> Packer {
        let limits = |names: &[(String, u32)]| {
            let mut limits = vec![0; COMMANDS.len()];
            for (name, most) in names {
                if let Some(spec) = table::find(name.as_bytes()) {
                    limits[spec.command as usize] = if *most == 0 { u32::MAX } else { *most };
                }
            }
            limits
        };
        Packer {
            slots,
            shards,
            taken: taken.map(limits),
        }
    }

    /// The slot of its first key if all its keys are in the same shard, and in one slot where the command asks for that.
    fn place(&self, spec: &Spec, args: &[&[u8]]) -> Option<(u16, u16)> {
        let mut keys = spec.key_positions(args).map(|at| slot_of(args[at]));
        let first = keys.next()?;
        let shard = self.slots[first as usize];
        keys.all(|slot| slot == first || (spec.split != "none" && self.slots[slot as usize] == shard))
            .then_some((shard, first))
    }

    /// The commands of `data` from `at` on, up to `max_commands`, and up to `max_bytes` unless the first is larger. With `writes_first` nothing is
    /// taken if the first is one that a reader can answer.
    pub fn pack(&self, data: &[u8], at: usize, resp3: bool, writes_first: bool, max_commands: usize, max_bytes: usize) -> Packed {
        let taken = &self.taken[resp3 as usize];
        let mut args = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let mut order = Vec::new();
        let mut end = at;
        while order.len() < max_commands {
            let Some(next) = next_command(data, end, &mut args) else {
                break;
            };
            let Ok(spec) = resolve(&args) else { break };
            if args.len() > taken[spec.command as usize] as usize || (next - at > max_bytes && end > at) {
                break;
            }
            if writes_first && end == at && spec.flags & table::LOCAL != 0 {
                break;
            }
            let (shard, slot) = if self.shards == 1 && spec.keys.1 == 1 && !parts.is_empty() {
                (0, 0)
            } else {
                match self.place(spec, &args) {
                    Some(place) => place,
                    None => break,
                }
            };
            let number = match parts.iter().position(|part| part.shard == shard) {
                Some(number) => number,
                None => {
                    let body = Vec::with_capacity(data.len() - at);
                    parts.push(Part {
                        shard,
                        slot,
                        count: 0,
                        writes: false,
                        body,
                    });
                    parts.len() - 1
                }
            };
            let part = &mut parts[number];
            part.count += 1;
            part.writes |= spec.flags & table::WRITE != 0;
            part.body.array(args.len());
            part.body.status(spec.name);
            for arg in &args[1..] {
                part.body.bytes(arg);
            }
            order.push(number as u16);
            end = next;
        }
        if parts.len() == 1 {
            order.clear();
        }
        Packed { end, parts, order }
    }
}

/// How the results of some commands are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As they are: a msgpack array.
    Raw,
    Resp2,
    Resp3,
}

/// These are no results that can be passed on so: they are malformed, have another number than is due, or a shard says that a slot is not its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusual;

/// Reads msgpack results.
struct Results<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Results<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Unusual> {
        let end = self
            .at
            .checked_add(bytes)
            .filter(|&end| end <= self.data.len())
            .ok_or(Unusual)?;
        let taken = &self.data[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u64, Unusual> {
        Ok(self.take(bytes)?.iter().fold(0, |number, &byte| number << 8 | byte as u64))
    }

    fn byte(&mut self) -> Result<u8, Unusual> {
        Ok(self.take(1)?[0])
    }

    fn array(&mut self) -> Result<usize, Unusual> {
        Ok(match self.byte()? {
            mark @ 0x90..=0x9f => (mark & 15) as usize,
            0xdc => self.number(2)? as usize,
            0xdd => self.number(4)? as usize,
            _ => return Err(Unusual),
        })
    }

    fn text(&mut self) -> Result<&'a [u8], Unusual> {
        let length = match self.byte()? {
            mark @ 0xa0..=0xbf => (mark & 31) as usize,
            0xd9 => self.number(1)? as usize,
            0xda => self.number(2)? as usize,
            0xdb => self.number(4)? as usize,
            _ => return Err(Unusual),
        };
        self.take(length)
    }

    /// Pass one result on. The codes of errors are noted.
    fn pass(&mut self, out: &mut impl Sink, codes: &mut Vec<String>, depth: usize) -> Result<(), Unusual> {
        match self.byte()? {
            0xc0 => out.nil(),
            mark @ 0x00..=0x7f => out.int(mark as i64),
            mark @ 0xe0..=0xff => out.int(mark as i8 as i64),
            0xcc => out.int(self.number(1)? as i64),
            0xcd => out.int(self.number(2)? as i64),
            0xce => out.int(self.number(4)? as i64),
            0xcf => out.int(i64::try_from(self.number(8)?).map_err(|_| Unusual)?),
            0xd0 => out.int(self.number(1)? as i8 as i64),
            0xd1 => out.int(self.number(2)? as i16 as i64),
            0xd2 => out.int(self.number(4)? as i32 as i64),
            0xd3 => out.int(self.number(8)? as i64),
            mark @ 0xc4..=0xc6 => {
                let length = self.number(1 << (mark - 0xc4))? as usize;
                out.bytes(self.take(length)?);
            }
            0xa0..=0xbf | 0xd9..=0xdb => {
                self.at -= 1;
                out.status(std::str::from_utf8(self.text()?).map_err(|_| Unusual)?);
            }
            0x90..=0x9f | 0xdc | 0xdd => {
                self.at -= 1;
                let length = self.array()?;
                if depth == DEPTH_MAX {
                    return Err(Unusual);
                }
                out.array(length);
                for _ in 0..length {
                    self.pass(out, codes, depth + 1)?;
                }
            }
            mark @ (0xd4..=0xd8 | 0xc7..=0xc9) => {
                let length = if mark >= 0xd4 {
                    1 << (mark - 0xd4)
                } else {
                    self.number(1 << (mark - 0xc7))? as usize
                };
                if self.byte()? as i8 != ERROR_EXTENSION {
                    return Err(Unusual);
                }
                let mut inner = Results {
                    data: self.take(length)?,
                    at: 0,
                };
                if inner.array()? != 2 {
                    return Err(Unusual);
                }
                let code = std::str::from_utf8(inner.text()?).map_err(|_| Unusual)?;
                let message = std::str::from_utf8(inner.text()?).map_err(|_| Unusual)?;
                if code == "MOVED" || inner.at != length {
                    return Err(Unusual);
                }
                out.error(code, message);
                codes.push(code.to_owned());
            }
            _ => return Err(Unusual),
        }
        Ok(())
    }

    /// Step over one result, which must be well-formed; `codes` is noted later, when it is passed on.
    fn skip(&mut self) -> Result<(), Unusual> {
        self.pass(&mut Nowhere, &mut Vec::new(), 0)
    }
}

/// Takes replies and forgets them.
struct Nowhere;

impl Sink for Nowhere {
    fn nil(&mut self) {}
    fn int(&mut self, _value: i64) {}
    fn bytes(&mut self, _data: &[u8]) {}
    fn status(&mut self, _text: &str) {}
    fn array(&mut self, _length: usize) {}
    fn error(&mut self, _code: &str, _message: &str) {}
    fn mark(&self) -> usize {
        0
    }
    fn rewind(&mut self, _mark: usize) {}
}

/// What became of a batch: its results cut into runs of so many commands, each in its form, and the codes of the errors among those not raw.
pub fn results(payload: &[u8], runs: &[(usize, Form)]) -> Result<(Vec<Vec<u8>>, Vec<String>), Unusual> {
    let mut results = Results { data: payload, at: 0 };
    if results.array()? != runs.iter().map(|&(count, _)| count).sum::<usize>() {
        return Err(Unusual);
    }
    let mut codes = Vec::new();
    let mut cut = Vec::with_capacity(runs.len());
    for &(count, form) in runs {
        if form == Form::Raw {
            let from = results.at;
            for _ in 0..count {
                results.skip()?;
            }
            let mut raw = Vec::with_capacity(results.at - from + 5);
            raw.array(count);
            raw.extend_from_slice(&payload[from..results.at]);
            cut.push(raw);
        } else {
            let mut sink = RespSink {
                out: Vec::with_capacity(count * 8),
                resp3: form == Form::Resp3,
            };
            for _ in 0..count {
                results.pass(&mut sink, &mut codes, 0)?;
            }
            cut.push(sink.out);
        }
    }
    if results.at != payload.len() {
        return Err(Unusual);
    }
    Ok((cut, codes))
}

/// Raw results of several shards in the order of the commands: replies, and the codes of the errors among them.
pub fn weave(order: &[u16], parts: &[&[u8]], resp3: bool) -> Result<(Vec<u8>, Vec<String>), Unusual> {
    let mut readers: Vec<Results> = parts.iter().map(|&data| Results { data, at: 0 }).collect();
    for reader in &mut readers {
        reader.array()?;
    }
    let mut codes = Vec::new();
    let mut sink = RespSink {
        out: Vec::with_capacity(order.len() * 8),
        resp3,
    };
    for &number in order {
        readers
            .get_mut(number as usize)
            .ok_or(Unusual)?
            .pass(&mut sink, &mut codes, 0)?;
    }
    Ok((sink.out, codes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::SLOT_COUNT;

    fn packer(shards: usize) -> Packer {
        let slots = (0..SLOT_COUNT).map(|slot| (slot * shards / SLOT_COUNT) as u16).collect();
        let names: Vec<_> = [("SET", 0), ("GET", 0), ("INCR", 0), ("MSET", 0), ("MSETNX", 0), ("LPOP", 2)]
            .map(|(name, most)| (name.to_owned(), most))
            .to_vec();
        Packer::new(slots, shards, [&names, &names[..3]])
    }

    fn request(words: &[&[u8]]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            out.extend(format!("${}\r\n", word.len()).bytes());
            out.extend_from_slice(word);
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    fn stream(commands: &[&str]) -> Vec<u8> {
        commands
            .iter()
            .flat_map(|line| request(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()))
            .collect()
    }

    #[test]
    fn plain_commands_are_packed() {
        let data = stream(&["set a 1", "Get a"]);
        let packed = packer(1).pack(&data, 0, false, false, 100, 1000);
        assert_eq!(packed.end, data.len());
        assert!(packed.order.is_empty());
        let [part] = packed.parts.as_slice() else { panic!() };
        assert_eq!((part.shard, part.slot, part.count, part.writes), (0, slot_of(b"a"), 2, true));
        assert_eq!(part.body, b"\x93\xa3SET\xc4\x01a\xc4\x011\x92\xa3GET\xc4\x01a");
        assert_eq!(packer(1).pack(&data, 0, false, true, 100, 1000).end, data.len());
        assert_eq!(
            packer(1).pack(&stream(&["GET a", "SET a 1"]), 0, false, true, 100, 1000).end,
            0
        );
        assert!(!packer(1).pack(&stream(&["GET a"]), 0, false, false, 100, 1000).parts[0].writes);
    }

    #[test]
    fn it_ends_before_what_is_not_plain() {
        let first = stream(&["SET a 1"]);
        for other in ["PING", "NOSUCH a", "SET a", "LPOP a 1", "MSETNX a 1 b 2", "STRLEN a"] {
            for shards in [1, 3] {
                let packed = packer(shards).pack(&stream(&["SET a 1", other, "SET b 1"]), 0, false, false, 100, 1000);
                assert_eq!(packed.end, first.len(), "{other}");
                assert_eq!(packed.parts[0].count, 1);
            }
        }
        let reserved = [
            first.clone(),
            request(&[b"SET", &[crate::parts::PREFIX.as_slice(), b"x"].concat(), b"1"]),
        ]
        .concat();
        assert_eq!(packer(1).pack(&reserved, 0, false, false, 100, 1000).end, first.len());
        // Cut at every byte: whole commands only.
        let two = stream(&["SET a 1", "INCR b"]);
        for end in 0..=two.len() {
            let taken = packer(2).pack(&two[..end], 0, true, false, 100, 1000).end;
            assert_eq!(
                taken,
                if end == two.len() {
                    end
                } else if end >= first.len() {
                    first.len()
                } else {
                    0
                }
            );
        }
        // In RESP3 other commands may be taken.
        assert_eq!(packer(1).pack(&stream(&["MSET a 1"]), 0, true, false, 100, 1000).end, 0);
    }

    #[test]
    fn limits_end_it_too() {
        let data = stream(&["INCR a"; 5]);
        let one = data.len() / 5;
        assert_eq!(packer(1).pack(&data, 0, false, false, 3, 1000).end, 3 * one);
        assert_eq!(packer(1).pack(&data, one, false, false, 100, 2 * one).end, 3 * one);
        // A single larger one is taken.
        assert_eq!(packer(1).pack(&data, 0, false, false, 100, 1).end, one);
    }

    #[test]
    fn shards_get_their_own_and_the_order_is_kept() {
        let data = stream(&["INCR a", "INCR b", "INCR a", "MSET {a}1 1 {a}2 2", "MSET a 1 b 2"]);
        let packer = packer(16);
        let packed = packer.pack(&data, 0, false, false, 100, 1000);
        assert_ne!(packer.slots[slot_of(b"a") as usize], packer.slots[slot_of(b"b") as usize]);
        assert_eq!(packed.end, data.len() - stream(&["MSET a 1 b 2"]).len());
        assert_eq!(packed.order, [0, 1, 0, 0]);
        assert_eq!(packed.parts.iter().map(|part| part.count).collect::<Vec<_>>(), [3, 1]);
    }

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        out.array(7);
        out.ok();
        out.int(-70_000);
        out.nil();
        out.bytes(&[b'x'; 300]);
        out.error("ERR", "bad\r\nthing");
        out.array(2);
        out.int(1);
        out.nil();
        out.int(i64::MIN);
        out
    }

    #[test]
    fn results_become_replies() {
        let payload = sample();
        let (cut, codes) = results(
            &payload,
            &[
                (2, Form::Resp2),
                (1, Form::Resp3),
                (0, Form::Resp2),
                (2, Form::Resp2),
                (2, Form::Raw),
            ],
        )
        .unwrap();
        assert_eq!(cut[0], b"+OK\r\n:-70000\r\n");
        assert_eq!(cut[1], b"_\r\n");
        assert_eq!(cut[2], b"");
        assert!(cut[3].starts_with(b"$300\r\nxxx") && cut[3].ends_with(b"x\r\n-ERR bad  thing\r\n"));
        assert_eq!(cut[4], b"\x92\x92\x01\xc0\xd3\x80\0\0\0\0\0\0\0");
        assert_eq!(codes, ["ERR"]);
        let (woven, _) = weave(&[0, 1, 1, 0], &[b"\x92\x01\x02", b"\x92\x03\xa2OK"], false).unwrap();
        assert_eq!(woven, b":1\r\n:3\r\n+OK\r\n:2\r\n");
    }

    #[test]
    fn what_is_unusual_is_refused_whole() {
        let payload = sample();
        for end in 0..payload.len() {
            assert_eq!(results(&payload[..end], &[(7, Form::Resp2)]), Err(Unusual));
        }
        assert_eq!(results(&payload, &[(6, Form::Resp2)]), Err(Unusual));
        assert_eq!(results(&[payload, vec![0]].concat(), &[(7, Form::Resp2)]), Err(Unusual));
        let mut moved = Vec::new();
        moved.array(1);
        moved.error("MOVED", "slot 1 belongs to another shard");
        assert_eq!(results(&moved, &[(1, Form::Resp2)]), Err(Unusual));
        assert_eq!(results(&moved, &[(1, Form::Raw)]), Err(Unusual));
        let mut deep = vec![0x91; 100];
        deep.push(0xc0);
        assert_eq!(results(&deep, &[(1, Form::Raw)]), Err(Unusual));
        assert_eq!(weave(&[0, 0], &[b"\x91\x01"], false), Err(Unusual));
        assert_eq!(weave(&[1], &[b"\x91\x01"], false), Err(Unusual));
    }
}
