//! What a change of a key is called in messages about keys (the names of Redis' keyspace notifications). The write log carries the number of the name, so that
//! whoever reads it, here or on a replica, can tell not only that a key changed but how.

/// Events: the class letter of `notify-keyspace-events`, and the name. The number of a row is in the log: add at the end, never reuse one. 0 is no event.
pub const EVENTS: &[(char, &str)] = &[
    (' ', ""),
    ('$', "set"),
    ('$', "setrange"),
    ('$', "append"),
    ('$', "incrby"),
    ('$', "incrbyfloat"),
    ('$', "setbit"),
    ('$', "pfadd"),
    ('g', "del"),
    ('g', "expire"),
    ('g', "persist"),
    ('g', "rename"),
    ('g', "copy_to"),
    ('g', "restore"),
    ('l', "sortstore"),
    ('h', "hset"),
    ('h', "hincrby"),
    ('h', "hincrbyfloat"),
    ('h', "hdel"),
    ('h', "hexpire"),
    ('h', "hpersist"),
    ('l', "lpush"),
    ('l', "rpush"),
    ('l', "lpop"),
    ('l', "rpop"),
    ('l', "linsert"),
    ('l', "lset"),
    ('l', "lrem"),
    ('l', "ltrim"),
    ('s', "sadd"),
    ('s', "srem"),
    ('s', "spop"),
    ('s', "sinterstore"),
    ('s', "sunionstore"),
    ('s', "sdiffstore"),
    ('z', "zadd"),
    ('z', "zincr"),
    ('z', "zrem"),
    ('z', "zremrangebyrank"),
    ('z', "zremrangebyscore"),
    ('z', "zremrangebylex"),
    ('z', "zpopmin"),
    ('z', "zpopmax"),
    ('z', "zinterstore"),
    ('z', "zunionstore"),
    ('z', "zdiffstore"),
    ('z', "zrangestore"),
    ('z', "geosearchstore"),
    ('z', "georadiusstore"),
];

/// Commands and the event that their changes are, unless the command says otherwise while it runs.
const OF_COMMANDS: &[(&str, &[&str])] = &[
    (
        "set",
        &["SET", "SETNX", "SETEX", "PSETEX", "MSET", "MSETNX", "GETSET", "BITOP"],
    ),
    ("setrange", &["SETRANGE"]),
    ("append", &["APPEND"]),
    ("incrby", &["INCR", "DECR", "INCRBY", "DECRBY"]),
    ("incrbyfloat", &["INCRBYFLOAT"]),
    ("setbit", &["SETBIT", "BITFIELD"]),
    ("pfadd", &["PFADD", "PFMERGE"]),
    ("expire", &["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "GETEX"]),
    ("persist", &["PERSIST"]),
    ("rename", &["RENAME", "RENAMENX"]),
    ("copy_to", &["COPY"]),
    ("restore", &["RESTORE"]),
    ("sortstore", &["SORT"]),
    ("hset", &["HSET", "HMSET", "HSETNX", "HSETEX"]),
    ("hincrby", &["HINCRBY"]),
    ("hincrbyfloat", &["HINCRBYFLOAT"]),
    ("hdel", &["HDEL", "HGETDEL"]),
    ("hexpire", &["HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT", "HGETEX"]),
    ("hpersist", &["HPERSIST"]),
    ("lpush", &["LPUSH", "LPUSHX"]),
    ("rpush", &["RPUSH", "RPUSHX"]),
    ("lpop", &["LPOP", "BLPOP"]),
    ("rpop", &["RPOP", "BRPOP"]),
    ("linsert", &["LINSERT"]),
    ("lset", &["LSET"]),
    ("lrem", &["LREM"]),
    ("ltrim", &["LTRIM"]),
    ("sadd", &["SADD"]),
    ("srem", &["SREM"]),
    ("spop", &["SPOP"]),
    ("sinterstore", &["SINTERSTORE"]),
    ("sunionstore", &["SUNIONSTORE"]),
    ("sdiffstore", &["SDIFFSTORE"]),
    ("zadd", &["ZADD", "GEOADD"]),
    ("zincr", &["ZINCRBY"]),
    ("zrem", &["ZREM"]),
    ("zremrangebyrank", &["ZREMRANGEBYRANK"]),
    ("zremrangebyscore", &["ZREMRANGEBYSCORE"]),
    ("zremrangebylex", &["ZREMRANGEBYLEX"]),
    ("zpopmin", &["ZPOPMIN", "BZPOPMIN"]),
    ("zpopmax", &["ZPOPMAX", "BZPOPMAX"]),
    ("zinterstore", &["ZINTERSTORE"]),
    ("zunionstore", &["ZUNIONSTORE"]),
    ("zdiffstore", &["ZDIFFSTORE"]),
    ("zrangestore", &["ZRANGESTORE"]),
    ("geosearchstore", &["GEOSEARCHSTORE"]),
    ("georadiusstore", &["GEORADIUS", "GEORADIUSBYMEMBER"]),
];

pub const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The number of an event: `const LPOP: u8 = event("lpop")`.
pub const fn event(name: &str) -> u8 {
    let mut number = 0;
    while number < EVENTS.len() {
        if same(EVENTS[number].1, name) {
            return number as u8;
        }
        number += 1;
    }
    panic!("no such event")
}

/// The event of a command's changes; 0: none of its own.
pub const fn event_of(command: &str) -> u8 {
    let mut row = 0;
    while row < OF_COMMANDS.len() {
        let (name, commands) = OF_COMMANDS[row];
        let mut at = 0;
        while at < commands.len() {
            if same(commands[at], command) {
                return event(name);
            }
            at += 1;
        }
        row += 1;
    }
    0
}

const _: () = assert!(EVENTS.len() <= 128, "a record has seven bits for it");
