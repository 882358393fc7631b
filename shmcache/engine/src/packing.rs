//! The gateway's way to the shards: commands of the Redis protocol to the messages' msgpack, many at a time and without an object for each.
//! (The way back: `cutting`.)
//!
//! Only what is plain is taken: commands with keys in one shard, named by the caller, whose replies need no look at what was asked. All else is left
//! to the caller, who goes on where this ends.

use crate::commands::reply::Sink;
use crate::commands::resolve;
use crate::commands::table::{self, Spec, COMMANDS};
use crate::resp::next_command;
use crate::slots::slot_of;

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
            put(&mut part.body, spec, &args);
            order.push(number as u16);
            end = next;
        }
        if parts.len() == 1 {
            order.clear();
        }
        Packed { end, parts, order }
    }
}

impl Packer {
    /// One batch of whole packets, each with whether it is of RESP3, where there is but one shard. It ends before the first packet that is not plain
    /// throughout, or that begins with what a reader can answer; and at `max_commands` and `max_bytes`, unless the first alone is larger in bytes.
    pub fn pack_packets(&self, packets: &[(&[u8], bool)], max_commands: usize, max_bytes: usize) -> Batch {
        let mut batch = Batch {
            payload: Vec::with_capacity(BATCH_HEAD + packets.iter().map(|(data, _)| data.len()).sum::<usize>().min(max_bytes)),
            counts: Vec::with_capacity(packets.len()),
            slot: 0,
            writes: false,
        };
        batch.payload.resize(BATCH_HEAD, 0);
        let mut total = 0;
        let mut args = Vec::new();
        for &(data, resp3) in packets {
            let before = batch.payload.len();
            if total > 0 && before + data.len() > max_bytes {
                break;
            }
            let Some((count, slot, writes)) = self.pack_packet(data, resp3, max_commands - total, &mut args, &mut batch.payload)
            else {
                batch.payload.truncate(before);
                break;
            };
            if total == 0 {
                batch.slot = slot;
            }
            total += count;
            batch.writes |= writes;
            batch.counts.push(count as u32);
        }
        batch.payload[0] = 0xdd;
        batch.payload[1..BATCH_HEAD].copy_from_slice(&(total as u32).to_be_bytes());
        batch
    }

    /// (Number of commands, slot of the first, whether any writes) of a packet that is plain from its beginning to its end.
    fn pack_packet<'a>(
        &self,
        data: &'a [u8],
        resp3: bool,
        max_commands: usize,
        args: &mut Vec<&'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Option<(usize, u16, bool)> {
        let taken = &self.taken[resp3 as usize];
        let (mut end, mut count, mut first, mut writes) = (0, 0, 0, false);
        while end < data.len() && count < max_commands {
            end = next_command(data, end, args)?;
            let spec = resolve(args).ok()?;
            if args.len() > taken[spec.command as usize] as usize || (count == 0 && spec.flags & table::LOCAL != 0) {
                return None;
            }
            if count == 0 || spec.keys.1 != 1 {
                let (_, slot) = self.place(spec, args)?;
                if count == 0 {
                    first = slot;
                }
            }
            writes |= spec.flags & table::WRITE != 0;
            put(out, spec, args);
            count += 1;
        }
        (end == data.len() && count > 0).then_some((count, first, writes))
    }
}

/// A message for the only shard.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// A msgpack array of all commands.
    pub payload: Vec<u8>,
    /// For each packet that was taken its number of commands.
    pub counts: Vec<u32>,
    /// Of the first command's first key.
    pub slot: u16,
    pub writes: bool,
}

/// The array of a batch, whose length is known at the end.
const BATCH_HEAD: usize = 5;

fn put(out: &mut Vec<u8>, spec: &Spec, args: &[&[u8]]) {
    out.array(args.len());
    out.status(spec.name);
    for arg in &args[1..] {
        out.bytes(arg);
    }
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
    fn packets_are_taken_whole_or_not_at_all() {
        let packer = packer(1);
        let one = stream(&["SET a 1"]);
        let two = stream(&["INCR b", "GET a", "INCR c"]);
        let batch = packer.pack_packets(&[(&one, false), (&two, true)], 100, 1000);
        assert_eq!(
            (batch.counts.as_slice(), batch.slot, batch.writes),
            (&[1, 3][..], slot_of(b"a"), true)
        );
        let mut expected = b"\xdd\0\0\0\x04".to_vec();
        expected.extend(packer.pack(&one, 0, false, false, 100, 1000).parts[0].body.iter());
        expected.extend(packer.pack(&two, 0, false, false, 100, 1000).parts[0].body.iter());
        assert_eq!(batch.payload, expected);
        // Each of these ends it, and leaves no trace: a read at the front, another command, a cut one, nothing, one not taken in this protocol.
        let mset = stream(&["MSET a 1"]);
        for (odd, resp3) in [
            (stream(&["GET a", "SET a 1"]), false),
            (stream(&["SET a 1", "PING"]), false),
            (one[..one.len() - 1].to_vec(), false),
            (Vec::new(), false),
            (mset.clone(), true),
        ] {
            let batch = packer.pack_packets(&[(&one, false), (&odd, resp3), (&one, false)], 100, 1000);
            assert_eq!(batch.counts, [1], "{odd:?}");
            assert_eq!(batch, packer.pack_packets(&[(&one, false)], 100, 1000));
            assert!(packer.pack_packets(&[(&odd, resp3)], 100, 1000).counts.is_empty());
        }
        assert_eq!(packer.pack_packets(&[(&mset, false)], 100, 1000).counts, [1]);
        // The limits.
        assert_eq!(packer.pack_packets(&[(&one, false), (&two, false)], 3, 1000).counts, [1]);
        assert!(packer.pack_packets(&[(&two, false)], 2, 1000).counts.is_empty());
        assert_eq!(packer.pack_packets(&[(&two, false), (&one, false)], 100, 10).counts, [3]);
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
}
