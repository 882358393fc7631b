//! The gateway's way back from the shards: the results' msgpack to the Redis protocol, cut into the replies of each connection.

use crate::commands::reply::{Sink, ERROR_EXTENSION};
use crate::resp::RespSink;

/// Arrays in arrays that a result may have.
const DEPTH_MAX: usize = 32;

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
