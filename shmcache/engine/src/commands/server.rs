//! Commands about the server itself.

use super::reply::Sink;
use super::table::Command;
use super::{Args, Fail};
use crate::layout::LAYOUT_VERSION;
use crate::owner::Owner;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Ping => match args {
            [_] => out.status("PONG"),
            [_, message] => out.bytes(message),
            _ => return Err(Fail::err("wrong number of arguments for 'ping' command")),
        },
        Command::Echo => out.bytes(args[1]),
        Command::Time => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            out.array(2);
            out.bytes(now.as_secs().to_string().as_bytes());
            out.bytes(now.subsec_micros().to_string().as_bytes());
        }
        Command::Info => out.bytes(info(owner).as_bytes()),
        other => unreachable!("{other:?} is no server command"),
    }
    Ok(())
}

/// This shard's part of INFO; clients add the shards up.
fn info(owner: &Owner) -> String {
    let stats = owner.stats();
    let counters = &owner.counters;
    let (shard, shards) = owner.shard();
    let mut text = String::new();
    let mut section = |name: &str, lines: &[(&str, String)]| {
        let _ = write!(text, "# {name}\r\n");
        for (key, value) in lines {
            let _ = write!(text, "{key}:{value}\r\n");
        }
        text.push_str("\r\n");
    };
    section(
        "Server",
        &[
            ("shmcache_version", env!("CARGO_PKG_VERSION").into()),
            ("layout_version", LAYOUT_VERSION.to_string()),
            ("process_id", std::process::id().to_string()),
            ("shard", shard.to_string()),
            ("shards", shards.to_string()),
        ],
    );
    section("Clients", &[("connected_clients", stats.clients.living.to_string())]);
    section(
        "Memory",
        &[
            ("used_memory", stats.used_bytes.to_string()),
            ("maxmemory", stats.memory_bytes.to_string()),
            ("maxmemory_policy", owner.policy().name().into()),
            ("committed_memory", stats.heap_committed_bytes.to_string()),
        ],
    );
    section(
        "Stats",
        &[
            ("total_commands_processed", counters.commands.to_string()),
            ("keyspace_hits", (counters.hits + stats.clients.hits).to_string()),
            ("keyspace_misses", (counters.misses + stats.clients.misses).to_string()),
            ("expired_keys", counters.expired.to_string()),
            ("evicted_keys", counters.evicted.to_string()),
            ("total_error_replies", counters.errors.to_string()),
        ],
    );
    section("Keyspace", &[("keys", stats.keys.to_string())]);
    text
}
