//! OBJECT: what is known of a key beside its value. It is no access: the key gets no younger by it.

use super::number::parse_int;
use super::reply::Sink;
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::collections::root_id;
use crate::owner::large::Opened;
use crate::owner::{Entry, Owner, Policy};

const HELP: &[&str] = &[
    "OBJECT ENCODING key: the form that Redis would keep the value in.",
    "OBJECT FREQ key: how often it is used, a logarithmic count; with an lfu policy only.",
    "OBJECT IDLETIME key: seconds since its last write; not with an lfu policy.",
    "OBJECT REFCOUNT key: 1.",
    "OBJECT HELP: this.",
];

/// Longest text that Redis keeps in one piece with its header.
const EMBEDDED_BYTES_MAX: usize = 44;

pub fn run(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let word = args[1].to_ascii_lowercase();
    let wanted = match word.as_slice() {
        b"help" => 2,
        b"encoding" | b"refcount" | b"idletime" | b"freq" => 3,
        _ => {
            let shown = String::from_utf8_lossy(&args[1][..args[1].len().min(128)]);
            return Err(Fail::err(format!("unknown subcommand '{shown}'. Try OBJECT HELP.")));
        }
    };
    if args.len() != wanted {
        let word = String::from_utf8_lossy(&word);
        return Err(Fail::err(format!("wrong number of arguments for 'object|{word}' command")));
    }
    if wanted == 2 {
        out.array(HELP.len());
        HELP.iter().for_each(|line| out.bytes(line.as_bytes()));
        return Ok(());
    }
    let Some(entry) = owner.lookup(args[2]) else {
        out.nil();
        return Ok(());
    };
    match word.as_slice() {
        b"encoding" => out.bytes(encoding(owner, args[2], &entry).as_bytes()),
        b"refcount" => out.int(1),
        b"idletime" => out.int(idle_seconds(owner, &entry)?),
        _ => out.int(frequency(owner)?),
    }
    Ok(())
}

/// As Redis would say of the value. A kind with several forms gets an arm here.
fn encoding(owner: &mut Owner, key: &[u8], entry: &Entry) -> &'static str {
    match Kind::from_code(entry.meta.kind_code()) {
        Some(Kind::String) => string_encoding(owner.value(entry)),
        // As Redis 7.2 says it; 7.0 calls every list a quicklist.
        Some(Kind::List) if root_id(owner.value(entry)).is_none() => "listpack",
        Some(Kind::List) => "quicklist",
        Some(Kind::Hash) if root_id(owner.value(entry)).is_none() => "listpack",
        Some(Kind::Hash) => "hashtable",
        Some(Kind::Zset) if root_id(owner.value(entry)).is_none() => "listpack",
        Some(Kind::Zset) => "skiplist",
        Some(Kind::Set) => set_encoding(owner, key, entry),
        Some(kind) => kind.name(),
        None => "unknown",
    }
}

/// Most members of a set that Redis keeps as sorted integers.
const INTSET_MAX: usize = 512;

fn set_encoding(owner: &mut Owner, key: &[u8], entry: &Entry) -> &'static str {
    match owner.opened(key, Kind::Set, *entry) {
        Opened::Large(large) if owner.length(&large) > INTSET_MAX => "hashtable",
        Opened::Large(large) => {
            let mut items = owner.known_order(&large).iter();
            let integers = items.all(|item| parse_int(owner.item_name(item)).is_some());
            if integers {
                "intset"
            } else {
                "hashtable"
            }
        }
        _ if owner.small(entry).strings().all(|member| parse_int(member).is_some()) => "intset",
        _ => "listpack",
    }
}

fn string_encoding(value: &[u8]) -> &'static str {
    if parse_int(value).is_some() {
        "int"
    } else if value.len() <= EMBEDDED_BYTES_MAX {
        "embstr"
    } else {
        "raw"
    }
}

fn counts_accesses(owner: &Owner) -> bool {
    matches!(owner.policy(), Policy::AllKeysLfu | Policy::VolatileLfu)
}

/// Since the entry's stamp: the time of the last read is in no entry.
fn idle_seconds(owner: &Owner, entry: &Entry) -> Result<i64, Fail> {
    if counts_accesses(owner) {
        return Err(Fail::err("An LFU maxmemory policy is selected, idle time not tracked."));
    }
    let written_ms = owner.stamp(entry) >> 16;
    Ok((owner.now_ms.saturating_sub(written_ms) / 1000) as i64)
}

fn frequency(owner: &Owner) -> Result<i64, Fail> {
    if !counts_accesses(owner) {
        return Err(Fail::err(
            "An LFU maxmemory policy is not selected, access frequency not tracked.",
        ));
    }
    Err(Fail::err("the access count of a single key is not told"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_redis() {
        for (value, expected) in [
            (&b"12"[..], "int"),
            (b"-9223372036854775808", "int"),
            (b"9223372036854775808", "embstr"),
            (b"012", "embstr"),
            (b"", "embstr"),
            (&[b'x'; 44], "embstr"),
            (&[b'x'; 45], "raw"),
        ] {
            assert_eq!(string_encoding(value), expected);
        }
    }
}
