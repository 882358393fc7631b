//! What the commands that a reader answers see of an instance: its keys, and its shards.

use super::convert::PySink;
use super::reader::PyReader;
use crate::clock::now_ms;
use crate::commands::read::{Busy, Part, Seen, View};
use crate::commands::scan::{self, Walk};
use crate::commands::table::{Command, Spec};
use crate::commands::{glob, reply::Sink, Fail};
use crate::layout::{header, IndexState, WORD};
use crate::reader::{ShardReader, Unread};
use crate::slots::slot_of;

/// The same command is answered here and by the owner: keys that it would not find in one slot are refused.
pub(super) fn one_slot(spec: &Spec, args: &[&[u8]]) -> Result<(), Fail> {
    if spec.split != "none" || spec.keys.1 == 1 {
        return Ok(());
    }
    let mut slots = spec.key_positions(args).map(|at| slot_of(args[at]));
    let first = slots.next();
    if slots.any(|slot| Some(slot) != first) {
        let message = format!(
            "the keys of {} hash to different slots: give them a common {{hash tag}}",
            spec.name
        );
        return Err(Fail::new("CROSSSLOT", message));
    }
    Ok(())
}

/// Reading commands over all shards.
pub(super) struct Local<'a> {
    reader: &'a PyReader,
    /// The last value looked at. Taken back by who reads on.
    pub(super) scratch: Vec<u8>,
    /// Why the last look saw nothing.
    pub(super) failed: Option<Unread>,
}

impl View for Local<'_> {
    const CONCURRENT: bool = true;

    fn time_ms(&mut self) -> u64 {
        now_ms()
    }

    fn look<T>(&mut self, key: &[u8], part: Part, visit: impl FnOnce(Option<Seen>) -> T) -> Result<T, Busy> {
        let shard = self.reader.shard_of(key);
        let scratch = &mut self.scratch;
        let found = shard.read(key, |map, glimpse| {
            let total = glimpse.meta.value_bytes();
            let (start, length) = part.of(total);
            // Words begin at multiples of 8: copy from there and leave the front out.
            let front = start % WORD;
            scratch.resize((front + length) as usize, 0);
            map.read(glimpse.offset.0 + glimpse.meta.value_at() + start - front, scratch);
            let deadline = if glimpse.meta.has_deadline() {
                map.load(glimpse.offset.0 + 2 * WORD)
            } else {
                0
            };
            (
                map.load(glimpse.offset.0),
                deadline,
                glimpse.meta.kind_code(),
                total,
                front as usize,
            )
        });
        match found {
            Err(unread) => {
                self.failed = Some(unread);
                Err(Busy)
            }
            Ok(None) => {
                shard.count(false);
                Ok(visit(None))
            }
            Ok(Some((stamp, deadline, kind_code, total, front))) => {
                shard.count(true);
                Ok(visit(Some(Seen {
                    stamp,
                    deadline,
                    kind_code,
                    total,
                    value: &self.scratch[front..],
                })))
            }
        }
    }

    fn prefetch(&self, key: &[u8]) {
        let shard = self.reader.shard_of(key);
        shard.prefetch_bucket(shard.hash(key));
    }

    fn draw(&mut self) -> u64 {
        self.reader.shards[0].random()
    }
}

impl Local<'_> {
    pub(super) fn new(reader: &PyReader, scratch: Vec<u8>) -> Local<'_> {
        Local {
            reader,
            scratch,
            failed: None,
        }
    }

    pub(super) fn over_all_shards(&mut self, command: Command, args: &[&[u8]], out: &mut PySink) -> Result<(), Fail> {
        let total: u64 = self.reader.shards.iter().map(|shard| shard.header(header::KEYS)).sum();
        match command {
            Command::Dbsize => out.int(total as i64),
            Command::Randomkey => {
                // A random shard first; another one if that is empty.
                let first = now_ms() as usize;
                let shards = &self.reader.shards;
                for step in 0..shards.len() {
                    let mut walk = ShardWalk::new(&shards[(first + step) % shards.len()]);
                    if walk.keys() > 0 || step + 1 == shards.len() {
                        let result = scan::run(&mut walk, command, args, out);
                        self.failed = walk.failed;
                        return result;
                    }
                }
            }
            Command::Keys => {
                let mut keys = Vec::new();
                for shard in &self.reader.shards {
                    let mut walk = ShardWalk::new(shard);
                    let mut cursor = 0;
                    loop {
                        let step = scan::step(&mut walk, cursor, scan::MAX_COUNT, |key, _| glob::matches(args[1], key));
                        self.failed = walk.failed;
                        let (next, some) = step?;
                        keys.extend(some);
                        cursor = next;
                        if cursor == 0 {
                            break;
                        }
                    }
                }
                out.array(keys.len());
                for key in &keys {
                    out.bytes(key);
                }
            }
            _ => return Err(Fail::err("use Reader.scan, a shard at a time")),
        }
        Ok(())
    }
}

/// Steps over the buckets of one shard.
pub(super) struct ShardWalk<'a> {
    reader: &'a ShardReader,
    /// Why the last step failed.
    pub(super) failed: Option<Unread>,
}

impl ShardWalk<'_> {
    pub(super) fn new(reader: &ShardReader) -> ShardWalk<'_> {
        ShardWalk { reader, failed: None }
    }
}

impl Walk for ShardWalk<'_> {
    fn state(&self) -> IndexState {
        self.reader.index_state()
    }

    fn bucket(&mut self, bucket: u64) -> Result<Vec<(Vec<u8>, u8)>, Busy> {
        self.reader.bucket_keys(bucket).map_err(|unread| {
            self.failed = Some(unread);
            Busy
        })
    }

    fn random(&mut self) -> u64 {
        self.reader.random()
    }

    fn keys(&self) -> u64 {
        self.reader.header(header::KEYS)
    }
}
