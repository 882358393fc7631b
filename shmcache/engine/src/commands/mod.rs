//! Command execution: from arguments to a reply, over the owner (all commands) or a lock-free reader (those flagged LOCAL).

mod assign;
pub mod batch;
mod bitfield;
mod bits;
mod dump;
pub mod events;
mod geo;
mod geo_search;
pub mod glob;
mod hash_expiry;
mod hashes;
mod hyperloglog;
mod lcs;
mod list_changes;
mod list_moves;
mod lists;
mod memory;
mod names;
pub mod number;
mod object;
pub mod parts;
mod picks;
pub mod read;
pub mod reply;
pub mod scan;
pub mod scores;
mod server;
mod set_algebra;
mod sets;
mod sort;
mod stamps;
pub mod table;
mod write;
mod zset_algebra;
mod zset_changes;
mod zset_picks;
mod zset_pops;
mod zset_ranges;
mod zset_view;
pub mod zsets;

use crate::layout::Kind;
use crate::owner::large::WrongKind;
use crate::owner::{Owner, Refused};
use crate::parts::is_reserved;
use crate::slots::slot_of;
use read::{Busy, View};
use reply::Sink;
use std::borrow::Cow;
use table::{Command, Spec};

/// A command's error reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Fail {
    /// First word of the reply.
    pub code: &'static str,
    pub message: Cow<'static, str>,
}

impl Fail {
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Fail {
        Fail {
            code,
            message: message.into(),
        }
    }

    pub fn err(message: impl Into<Cow<'static, str>>) -> Fail {
        Fail::new("ERR", message)
    }

    pub fn syntax() -> Fail {
        Fail::err("syntax error")
    }

    pub fn wrong_type() -> Fail {
        Fail::new("WRONGTYPE", "Operation against a key holding the wrong kind of value")
    }
}

impl From<Refused> for Fail {
    fn from(refused: Refused) -> Fail {
        match refused {
            Refused::OutOfMemory => Fail::new("OOM", "command not allowed when used memory > 'maxmemory'"),
            Refused::NoSpace => Fail::new("NOSPACE", "the host has no memory left for the region (/dev/shm is full)"),
            Refused::NameTooLong => Fail::new("LIMIT", "a field or member of a large collection has at most 65522 bytes"),
            Refused::KeyTooLong => Fail::new("LIMIT", "the key is longer than 65536 bytes"),
            Refused::ValueTooLong => Fail::new("LIMIT", "the value is longer than 512 MB"),
            Refused::GroupTooLarge => Fail::new("LIMIT", "the transaction's records take more than half of the write log"),
        }
    }
}

impl From<WrongKind> for Fail {
    fn from(_: WrongKind) -> Fail {
        Fail::wrong_type()
    }
}

/// Code of an answer that a reader does not have: the owner does. No client sees it.
pub const ASK_OWNER: &str = "ASKOWNER";

impl From<Busy> for Fail {
    fn from(_: Busy) -> Fail {
        Fail::new(ASK_OWNER, "the bucket is being changed, or only the owner knows")
    }
}

/// Arguments, the name first.
pub type Args<'a> = [&'a [u8]];

/// Check a command against its row: name, number of arguments, slots.
#[inline]
pub fn resolve(args: &Args) -> Result<&'static Spec, Fail> {
    let Some(spec) = args.first().and_then(|name| table::find(name)) else {
        return Err(unknown_command(args));
    };
    if !spec.arity_fits(args.len()) {
        return Err(Fail::err(format!(
            "wrong number of arguments for '{}' command",
            spec.name.to_lowercase()
        )));
    }
    if spec.key_positions(args).any(|at| is_reserved(args[at])) {
        return Err(Fail::new(
            "LIMIT",
            "keys that begin with ff 50 00 ff are kept for the parts of large collections",
        ));
    }
    Ok(spec)
}

/// Bytes of the arguments that the refusal of an unknown command repeats: whoever sent it by mistake shall recognise it.
const SHOWN_BYTES: usize = 128;

fn unknown_command(args: &Args) -> Fail {
    let shown = |text: &[u8]| String::from_utf8_lossy(&text[..text.len().min(SHOWN_BYTES)]).into_owned();
    let mut message = format!(
        "unknown command '{}', with args beginning with: ",
        args.first().map_or(String::new(), |name| shown(name))
    );
    let mut left = SHOWN_BYTES;
    for argument in args.iter().skip(1) {
        if left == 0 {
            break;
        }
        let part = shown(&argument[..argument.len().min(left)]);
        left -= argument.len().min(left);
        message.push_str(&format!("'{part}' "));
    }
    // An error is one line on the wires.
    Fail::err(message.replace(['\r', '\n'], " "))
}

impl Owner {
    /// Run one command and write its reply. Nothing but the reply tells of a failure.
    #[inline]
    pub fn run(&mut self, spec: &Spec, args: &Args, out: &mut impl Sink) {
        let mark = out.mark();
        self.event = spec.event;
        let result = self.try_run(spec, args, out);
        self.unpin();
        self.event = 0;
        if let Err(fail) = result {
            out.rewind(mark);
            self.counters.errors += 1;
            out.error(fail.code, &fail.message);
        }
    }

    #[inline]
    fn try_run(&mut self, spec: &Spec, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
        if self.is_replica() && spec.flags & table::WRITE != 0 {
            return Err(Fail::new("READONLY", self.refusal()));
        }
        if self.has_slots() {
            for at in spec.key_positions(args) {
                let slot = slot_of(args[at]);
                if !self.owns_slot(slot) {
                    return Err(Fail::new("MOVED", format!("slot {slot} belongs to another shard")));
                }
            }
        }
        if self.in_group() && !spec.has_keys() && spec.flags & table::WRITE != 0 {
            return Err(Fail::err(format!("{} has no key: not allowed in a transaction", spec.name)));
        }
        if spec.flags & table::LOCAL != 0 && spec.has_keys() {
            return read_local(self, spec, args, out);
        }
        match spec.family {
            table::HASH => return hashes::run(self, spec.command, args, out),
            table::LIST => return lists::run(self, spec.command, args, out),
            table::SET => return sets::run(self, spec.command, args, out),
            table::ZSET => return zsets::run(self, spec.command, args, out),
            _ => {}
        }
        match spec.command {
            Command::Scan | Command::Keys | Command::Randomkey | Command::Dbsize => scan::run(self, spec.command, args, out),
            Command::Ping | Command::Echo | Command::Time | Command::Info => server::run(self, spec.command, args, out),
            Command::Object => object::run(self, args, out),
            Command::Memory => memory::run(self, args, out),
            Command::Sort | Command::SortRo => sort::run(self, args, out),
            Command::Dump | Command::Restore => dump::run(self, spec.command, args, out),
            Command::Checkstamp => stamps::check(self, args, out),
            _ => write::run(self, spec.command, args, out),
        }
    }
}

/// Run a command flagged LOCAL that has a key.
#[inline]
pub fn read_local<V: View, S: Sink>(view: &mut V, spec: &Spec, args: &Args, out: &mut S) -> Result<(), Fail> {
    match spec.family {
        table::HASH => hashes::read(view, spec.command, args, out),
        table::LIST => lists::read(view, spec.command, args, out),
        table::SET => sets::read(view, spec.command, args, out),
        table::ZSET => zsets::read(view, spec.command, args, out),
        _ => read::run(view, spec.command, args, out),
    }
}

/// The only kind that string commands accept.
#[inline]
pub fn expect_string(kind_code: u8) -> Result<(), Fail> {
    if kind_code == Kind::String as u8 {
        Ok(())
    } else {
        Err(Fail::wrong_type())
    }
}
