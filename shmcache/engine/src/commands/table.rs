//! The command table: the one place where commands are described. The executor, the clients, the router, the command line and the reference
//! pages are driven by it; `_engine.COMMANDS` exports it to Python.

use super::events::{event_of, same};

pub const WRITE: u32 = 1;
pub const READONLY: u32 = 2;
pub const FAST: u32 = 4;
/// May need memory.
pub const DENYOOM: u32 = 8;
/// Doing it again leaves the same state: a client may repeat it when the answer was lost.
pub const IDEMPOTENT: u32 = 16;
/// A lock-free reader can answer it.
pub const LOCAL: u32 = 32;
/// Has no key: concerns every shard.
pub const ALL_SHARDS: u32 = 64;
/// Waits for an element if there is none. The engine tries once and answers nil; whoever serves the client asks again when the key changed.
pub const BLOCKING: u32 = 128;

pub const FLAG_NAMES: &[(u32, &str)] = &[
    (WRITE, "write"),
    (READONLY, "readonly"),
    (FAST, "fast"),
    (DENYOOM, "denyoom"),
    (IDEMPOTENT, "idempotent"),
    (LOCAL, "local"),
    (ALL_SHARDS, "all_shards"),
    (BLOCKING, "blocking"),
];

/// Families of the latency histograms.
pub const FAMILIES: &[&str] = &[
    "read", "write", "counter", "expiry", "scan", "keyspace", "server", "hash", "list", "set", "zset",
];

/// Numbers of families whose commands have a module of their own.
pub const HASH: usize = family("hash");
pub const LIST: usize = family("list");
pub const SET: usize = family("set");
pub const ZSET: usize = family("zset");

/// Commands that say how many keys come: position of that number. The keys follow it.
const NUMKEYS: &[(&str, usize)] = &[
    ("BZMPOP", 2),
    ("ZDIFF", 1),
    ("ZDIFFSTORE", 2),
    ("ZINTER", 1),
    ("ZINTERCARD", 1),
    ("ZINTERSTORE", 2),
    ("ZMPOP", 1),
    ("ZUNION", 1),
    ("ZUNIONSTORE", 2),
    ("SINTERCARD", 1),
    ("BLMPOP", 2),
    ("LMPOP", 1),
];

pub struct Spec {
    pub command: Command,
    pub name: &'static str,
    /// With the name; negative: at least that many.
    pub arity: i32,
    /// First key, last key, step: counted from the name; (0, 0, 0) without keys; last -1 is the last argument.
    /// A first key that is not 1 has a subcommand or operation before it (OBJECT ENCODING key, BITOP AND destination ...).
    pub keys: (i32, i32, i32),
    /// Position of the argument that says how many keys follow it; 0: there is none.
    pub numkeys: usize,
    /// What its changes are called (`events.rs`).
    pub event: u8,
    pub flags: u32,
    /// How one command over several shards is split and merged.
    pub split: &'static str,
    pub family: usize,
    pub summary: &'static str,
}

const fn family(name: &str) -> usize {
    let mut index = 0;
    while index < FAMILIES.len() {
        if same(FAMILIES[index], name) {
            return index;
        }
        index += 1;
    }
    panic!("no such family")
}

const fn numkeys_of(name: &str) -> usize {
    let mut index = 0;
    while index < NUMKEYS.len() {
        if same(NUMKEYS[index].0, name) {
            return NUMKEYS[index].1;
        }
        index += 1;
    }
    0
}

macro_rules! commands {
    ($($id:ident $name:literal $arity:literal ($first:literal $last:literal $step:literal) [$($flag:ident)|*] $split:literal $family:literal $summary:literal;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Command { $($id),* }

        /// All commands, sorted by name; the position is the command's number.
        pub const COMMANDS: &[Spec] = &[$(Spec {
            command: Command::$id, name: $name, arity: $arity, keys: ($first, $last, $step), numkeys: numkeys_of($name), event: event_of($name), flags: $($flag)|*, split: $split,
            family: family($family), summary: $summary,
        }),*];
    };
}

commands! {
    Append      "APPEND"       3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "write" "Append to a value; the new length.";
    Bitcount    "BITCOUNT"    -2 (1 1 1) [READONLY | LOCAL] "none" "read" "How many bits are set [start end [BYTE|BIT]].";
    Bitfield    "BITFIELD"    -2 (1 1 1) [WRITE | DENYOOM] "none" "write" "Integers of any width inside a value [GET type offset] [SET type offset value] [INCRBY type offset by] [OVERFLOW WRAP|SAT|FAIL] ...";
    BitfieldRo  "BITFIELD_RO" -2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "As BITFIELD with GET only.";
    Bitop       "BITOP"       -4 (2 -1 1) [WRITE | DENYOOM] "none" "write" "Store AND, OR, XOR or NOT of values under a key, all of one slot; the result's length.";
    Bitpos      "BITPOS"      -3 (1 1 1) [READONLY | LOCAL] "none" "read" "Position of the first bit that is 0 or 1 [start [end [BYTE|BIT]]].";
    Blmove      "BLMOVE"       6 (1 2 1) [WRITE | DENYOOM | BLOCKING] "none" "list" "As LMOVE; waits up to a timeout (seconds, 0: for ever) for an element.";
    Blmpop      "BLMPOP"      -5 (0 0 0) [WRITE | BLOCKING] "none" "list" "As LMPOP, after a timeout (seconds, 0: for ever) for which it waits.";
    Blpop       "BLPOP"       -3 (1 -2 1) [WRITE | BLOCKING] "none" "list" "[key, first element] of the first list of one slot that has any; waits up to a timeout (seconds, 0: for ever).";
    Brpop       "BRPOP"       -3 (1 -2 1) [WRITE | BLOCKING] "none" "list" "As BLPOP, the last element.";
    Brpoplpush  "BRPOPLPUSH"   4 (1 2 1) [WRITE | DENYOOM | BLOCKING] "none" "list" "As RPOPLPUSH; waits up to a timeout (seconds, 0: for ever) for an element.";
    Bzmpop      "BZMPOP"      -5 (0 0 0) [WRITE | BLOCKING] "none" "zset" "As ZMPOP, after a timeout (seconds, 0: for ever) for which it waits.";
    Bzpopmax    "BZPOPMAX"    -3 (1 -2 1) [WRITE | FAST | BLOCKING] "none" "zset" "As BZPOPMIN, the member of the highest score.";
    Bzpopmin    "BZPOPMIN"    -3 (1 -2 1) [WRITE | FAST | BLOCKING] "none" "zset" "[key, member, score] of the lowest score in the first sorted set of one slot that has any; waits up to a timeout (seconds, 0: for ever).";
    Checkstamp  "CHECKSTAMP"  -3 (1 -1 2) [READONLY | FAST] "none" "read" "OK if keys have these stamps (key stamp ...), else ABORTED; at the head of a transaction all of it is given up then.";
    Copy        "COPY"        -3 (1 2 1) [WRITE | DENYOOM] "none" "keyspace" "Copy a key's value and deadline to another key [REPLACE].";
    Dbsize      "DBSIZE"       1 (0 0 0) [READONLY | FAST | LOCAL | ALL_SHARDS] "sum" "server" "Number of keys.";
    Decr        "DECR"         2 (1 1 1) [WRITE | FAST | DENYOOM] "none" "counter" "Subtract one from an integer.";
    Decrby      "DECRBY"       3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "counter" "Subtract from an integer.";
    Del         "DEL"         -2 (1 -1 1) [WRITE | IDEMPOTENT] "sum" "keyspace" "Delete keys; how many there were.";
    Dump        "DUMP"         2 (1 1 1) [READONLY] "none" "keyspace" "A key's value as bytes that RESTORE takes (a format of our own).";
    Echo        "ECHO"         2 (0 0 0) [READONLY | FAST] "any" "server" "The argument.";
    Exists      "EXISTS"      -2 (1 -1 1) [READONLY | FAST | LOCAL] "sum" "read" "How many of the keys exist (one named twice counts twice).";
    Expire      "EXPIRE"      -3 (1 1 1) [WRITE | FAST] "none" "expiry" "Set a key's time to live, seconds [NX|XX|GT|LT].";
    Expireat    "EXPIREAT"    -3 (1 1 1) [WRITE | FAST | IDEMPOTENT] "none" "expiry" "Set a key's deadline, unix seconds [NX|XX|GT|LT].";
    Expiretime  "EXPIRETIME"   2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "A key's deadline, unix seconds; -1 none, -2 no key.";
    Flushall    "FLUSHALL"    -1 (0 0 0) [WRITE | IDEMPOTENT | ALL_SHARDS] "ok" "keyspace" "Delete everything [ASYNC|SYNC].";
    Flushdb     "FLUSHDB"     -1 (0 0 0) [WRITE | IDEMPOTENT | ALL_SHARDS] "ok" "keyspace" "As FLUSHALL: there is one database.";
    Geoadd      "GEOADD"      -5 (1 1 1) [WRITE | DENYOOM] "none" "zset" "Give members places (longitude latitude member ...) [NX|XX] [CH]; how many are new.";
    Geodist     "GEODIST"     -4 (1 1 1) [READONLY | LOCAL] "none" "zset" "The distance of two members [M|KM|FT|MI].";
    Geohash     "GEOHASH"     -2 (1 1 1) [READONLY | LOCAL] "none" "zset" "Geohashes of members, 11 characters.";
    Geopos      "GEOPOS"      -2 (1 1 1) [READONLY | LOCAL] "none" "zset" "[longitude, latitude] of members.";
    Georadius   "GEORADIUS"   -6 (1 1 1) [WRITE | DENYOOM] "none" "zset" "Members within a radius of a place [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT n [ANY]] [ASC|DESC] [STORE key] [STOREDIST key].";
    Georadiusbymember "GEORADIUSBYMEMBER" -5 (1 1 1) [WRITE | DENYOOM] "none" "zset" "As GEORADIUS, around a member.";
    GeoradiusbymemberRo "GEORADIUSBYMEMBER_RO" -5 (1 1 1) [READONLY | LOCAL] "none" "zset" "As GEORADIUSBYMEMBER without STORE.";
    GeoradiusRo "GEORADIUS_RO" -6 (1 1 1) [READONLY | LOCAL] "none" "zset" "As GEORADIUS without STORE.";
    Geosearch   "GEOSEARCH"   -7 (1 1 1) [READONLY | LOCAL] "none" "zset" "Members around FROMMEMBER member or FROMLONLAT longitude latitude, within BYRADIUS radius unit or BYBOX width height unit [ASC|DESC] [COUNT n [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH].";
    Geosearchstore "GEOSEARCHSTORE" -8 (1 2 1) [WRITE | DENYOOM] "none" "zset" "Store what GEOSEARCH finds as a sorted set of the same slot, with STOREDIST by distance; how many.";
    Get         "GET"          2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "A key's value.";
    Getbit      "GETBIT"       3 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "A bit of a value; 0 behind its end.";
    Getdel      "GETDEL"       2 (1 1 1) [WRITE | FAST] "none" "write" "A key's value, deleting it.";
    Getex       "GETEX"       -2 (1 1 1) [WRITE | FAST] "none" "expiry" "A key's value, setting its deadline [EX s|PX ms|EXAT s|PXAT ms|PERSIST].";
    Getrange    "GETRANGE"     4 (1 1 1) [READONLY | LOCAL] "none" "read" "Part of a value, both ends included, negative from the end.";
    Getset      "GETSET"       3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "write" "Set a value; the old one.";
    Getstamp    "GETSTAMP"     2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "[value, stamp] for SET ... IFSTAMP.";
    Hdel        "HDEL"        -3 (1 1 1) [WRITE | FAST | IDEMPOTENT] "none" "hash" "Delete fields; how many there were.";
    Hexists     "HEXISTS"      3 (1 1 1) [READONLY | FAST | LOCAL] "none" "hash" "Whether a field exists.";
    Hexpire     "HEXPIRE"     -6 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "Set fields' time to live, seconds [NX|XX|GT|LT] FIELDS n field ...; for each -2 no field, 0 not met, 1 set, 2 deleted.";
    Hexpireat   "HEXPIREAT"   -6 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "As HEXPIRE, a moment in unix seconds.";
    Hexpiretime "HEXPIRETIME" -5 (1 1 1) [READONLY | FAST] "none" "hash" "Deadlines of fields, unix seconds FIELDS n field ...; -1 none, -2 no field.";
    Hget        "HGET"         3 (1 1 1) [READONLY | FAST | LOCAL] "none" "hash" "A field's value.";
    Hgetall     "HGETALL"      2 (1 1 1) [READONLY | LOCAL] "none" "hash" "All fields and values.";
    Hgetdel     "HGETDEL"     -5 (1 1 1) [WRITE | FAST] "none" "hash" "Values of fields, deleting them FIELDS n field ....";
    Hgetex      "HGETEX"      -5 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "Values of fields, setting their deadline [EX s|PX ms|EXAT s|PXAT ms|PERSIST] FIELDS n field ....";
    Hincrby     "HINCRBY"      4 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "Add to a field's integer.";
    Hincrbyfloat "HINCRBYFLOAT" 4 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "Add to a field's number.";
    Hkeys       "HKEYS"        2 (1 1 1) [READONLY | LOCAL] "none" "hash" "All fields.";
    Hlen        "HLEN"         2 (1 1 1) [READONLY | FAST | LOCAL] "none" "hash" "Number of fields.";
    Hmget       "HMGET"       -3 (1 1 1) [READONLY | FAST | LOCAL] "none" "hash" "Values of fields.";
    Hmset       "HMSET"       -4 (1 1 1) [WRITE | FAST | DENYOOM | IDEMPOTENT] "none" "hash" "Set fields.";
    Hpersist    "HPERSIST"    -5 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "Take fields' deadlines away FIELDS n field ...; for each 1 done, -1 none, -2 no field.";
    Hpexpire    "HPEXPIRE"    -6 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "As HEXPIRE, ms.";
    Hpexpireat  "HPEXPIREAT"  -6 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "As HEXPIRE, a moment in unix ms.";
    Hpexpiretime "HPEXPIRETIME"-5 (1 1 1) [READONLY | FAST] "none" "hash" "Deadlines of fields, unix ms FIELDS n field ...; -1 none, -2 no field.";
    Hpttl       "HPTTL"       -5 (1 1 1) [READONLY | FAST] "none" "hash" "Fields' time to live, ms FIELDS n field ...; -1 none, -2 no field.";
    Hrandfield  "HRANDFIELD"  -2 (1 1 1) [READONLY | LOCAL] "none" "hash" "A random field, or [count [WITHVALUES]] of them; a negative count may repeat some.";
    Hscan       "HSCAN"       -3 (1 1 1) [READONLY] "none" "hash" "A step through the fields and values [MATCH pattern] [COUNT n] [NOVALUES].";
    Hset        "HSET"        -4 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "Set fields; how many are new.";
    Hsetex      "HSETEX"      -6 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "Set fields and their deadline [FNX|FXX] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL] FIELDS n field value ...; 1 if done.";
    Hsetnx      "HSETNX"       4 (1 1 1) [WRITE | FAST | DENYOOM] "none" "hash" "Set a field if there is none.";
    Hstrlen     "HSTRLEN"      3 (1 1 1) [READONLY | FAST | LOCAL] "none" "hash" "Length of a field's value, bytes.";
    Httl        "HTTL"        -5 (1 1 1) [READONLY | FAST] "none" "hash" "Fields' time to live, seconds FIELDS n field ...; -1 none, -2 no field.";
    Hvals       "HVALS"        2 (1 1 1) [READONLY | LOCAL] "none" "hash" "All values.";
    Incr        "INCR"         2 (1 1 1) [WRITE | FAST | DENYOOM] "none" "counter" "Add one to an integer.";
    Incrby      "INCRBY"       3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "counter" "Add to an integer.";
    Incrbyfloat "INCRBYFLOAT"  3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "counter" "Add to a number.";
    Info        "INFO"        -1 (0 0 0) [READONLY | ALL_SHARDS] "text" "server" "State and counters as text.";
    Keys        "KEYS"         2 (0 0 0) [READONLY | LOCAL | ALL_SHARDS] "concat" "scan" "All keys that match a pattern.";
    Keystamp    "KEYSTAMP"     2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "The stamp of a key of any kind, 0 if there is none.";
    Lcs         "LCS"         -3 (1 2 1) [READONLY | LOCAL] "none" "read" "Longest common subsequence of two values of one slot [LEN] [IDX] [MINMATCHLEN n] [WITHMATCHLEN].";
    Lindex      "LINDEX"       3 (1 1 1) [READONLY | LOCAL] "none" "list" "The element at a position, negative from the end.";
    Linsert     "LINSERT"      5 (1 1 1) [WRITE | DENYOOM] "none" "list" "Put an element BEFORE or AFTER the first that equals another; the new length, -1 if there is no such element.";
    Llen        "LLEN"         2 (1 1 1) [READONLY | FAST | LOCAL] "none" "list" "Number of elements.";
    Lmove       "LMOVE"        5 (1 2 1) [WRITE | DENYOOM] "none" "list" "Take an element from an end of one list and put it to an end of another of the same slot (LEFT|RIGHT LEFT|RIGHT).";
    Lmpop       "LMPOP"       -4 (0 0 0) [WRITE] "none" "list" "[key, elements] from an end (LEFT|RIGHT) of the first list of one slot that has any [COUNT n].";
    Lpop        "LPOP"        -2 (1 1 1) [WRITE | FAST] "none" "list" "Take the first element, or the first ones [count].";
    Lpos        "LPOS"        -3 (1 1 1) [READONLY] "none" "list" "Positions of an element [RANK n] [COUNT n] [MAXLEN n].";
    Lpush       "LPUSH"       -3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "list" "Put elements before the first, one after the other; the new length.";
    Lpushx      "LPUSHX"      -3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "list" "As LPUSH if the list exists.";
    Lrange      "LRANGE"       4 (1 1 1) [READONLY | LOCAL] "none" "list" "Elements from one position to another, both included, negative from the end.";
    Lrem        "LREM"         4 (1 1 1) [WRITE] "none" "list" "Remove elements that equal one: the first n, the last -n, or all (0); how many there were.";
    Lset        "LSET"         4 (1 1 1) [WRITE | DENYOOM | IDEMPOTENT] "none" "list" "Replace the element at a position.";
    Ltrim       "LTRIM"        4 (1 1 1) [WRITE] "none" "list" "Keep the elements from one position to another, both included.";
    Memory      "MEMORY"      -2 (2 2 1) [READONLY] "none" "keyspace" "USAGE key [SAMPLES n]: bytes that a key takes with all its parts.";
    Mget        "MGET"        -2 (1 -1 1) [READONLY | FAST | LOCAL] "values" "read" "The values of keys.";
    Mset        "MSET"        -3 (1 -1 2) [WRITE | DENYOOM | IDEMPOTENT] "pairs" "write" "Set several keys, atomically within a shard.";
    Msetnx      "MSETNX"      -3 (1 -1 2) [WRITE | DENYOOM] "none" "write" "Set several keys of one slot if none exists.";
    Object      "OBJECT"      -2 (2 2 1) [READONLY] "none" "keyspace" "What is known of a key: ENCODING, REFCOUNT, IDLETIME or FREQ of it; HELP.";
    Persist     "PERSIST"      2 (1 1 1) [WRITE | FAST] "none" "expiry" "Take a key's deadline away.";
    Pexpire     "PEXPIRE"     -3 (1 1 1) [WRITE | FAST] "none" "expiry" "Set a key's time to live, ms [NX|XX|GT|LT].";
    Pexpireat   "PEXPIREAT"   -3 (1 1 1) [WRITE | FAST | IDEMPOTENT] "none" "expiry" "Set a key's deadline, unix ms [NX|XX|GT|LT].";
    Pexpiretime "PEXPIRETIME"  2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "A key's deadline, unix ms; -1 none, -2 no key.";
    Pfadd       "PFADD"       -2 (1 1 1) [WRITE | FAST | DENYOOM | IDEMPOTENT] "none" "write" "Count elements in a HyperLogLog; 1 if its estimate may have changed.";
    Pfcount     "PFCOUNT"     -2 (1 -1 1) [READONLY | LOCAL] "none" "read" "About how many different elements HyperLogLogs of one slot have counted, together.";
    Pfmerge     "PFMERGE"     -2 (1 -1 1) [WRITE | DENYOOM | IDEMPOTENT] "none" "write" "Merge HyperLogLogs of one slot into the first.";
    Ping        "PING"        -1 (0 0 0) [READONLY | FAST] "any" "server" "PONG, or the argument.";
    Psetex      "PSETEX"       4 (1 1 1) [WRITE | DENYOOM] "none" "write" "Set a value with a time to live, ms.";
    Pttl        "PTTL"         2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "A key's time to live, ms; -1 none, -2 no key.";
    Randomkey   "RANDOMKEY"    1 (0 0 0) [READONLY | LOCAL | ALL_SHARDS] "any" "scan" "Some key.";
    Rename      "RENAME"       3 (1 2 1) [WRITE | DENYOOM] "none" "keyspace" "Give a key another name, atomically.";
    Renamenx    "RENAMENX"     3 (1 2 1) [WRITE | DENYOOM] "none" "keyspace" "Rename if the new name is free.";
    Restore     "RESTORE"     -4 (1 1 1) [WRITE | DENYOOM] "none" "keyspace" "Make a key of what DUMP gave, with a time to live in ms (0: none) [REPLACE] [ABSTTL] [IDLETIME s] [FREQ n].";
    Rpop        "RPOP"        -2 (1 1 1) [WRITE | FAST] "none" "list" "Take the last element, or the last ones [count].";
    Rpoplpush   "RPOPLPUSH"    3 (1 2 1) [WRITE | DENYOOM] "none" "list" "Move the last element of a list before the first of another of the same slot.";
    Rpush       "RPUSH"       -3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "list" "Put elements behind the last, one after the other; the new length.";
    Rpushx      "RPUSHX"      -3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "list" "As RPUSH if the list exists.";
    Sadd        "SADD"        -3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "set" "Add members; how many are new.";
    Scan        "SCAN"        -2 (0 0 0) [READONLY | LOCAL | ALL_SHARDS] "cursor" "scan" "A step through all keys [MATCH pattern] [COUNT n] [TYPE kind].";
    Scard       "SCARD"        2 (1 1 1) [READONLY | FAST | LOCAL] "none" "set" "Number of members.";
    Sdiff       "SDIFF"       -2 (1 -1 1) [READONLY] "none" "set" "Members of the first set that no other has, all of one slot.";
    Sdiffstore  "SDIFFSTORE"  -3 (1 -1 1) [WRITE | DENYOOM] "none" "set" "SDIFF, stored under the first key; how many.";
    Set         "SET"         -3 (1 1 1) [WRITE | DENYOOM] "none" "write" "Set a value [NX|XX|IFSTAMP stamp] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL].";
    Setbit      "SETBIT"       4 (1 1 1) [WRITE | DENYOOM] "none" "write" "Set or clear a bit; what it was.";
    Setex       "SETEX"        4 (1 1 1) [WRITE | DENYOOM] "none" "write" "Set a value with a time to live, seconds.";
    Setnx       "SETNX"        3 (1 1 1) [WRITE | FAST | DENYOOM] "none" "write" "Set a value if there is none.";
    Setrange    "SETRANGE"     4 (1 1 1) [WRITE | DENYOOM | IDEMPOTENT] "none" "write" "Overwrite part of a value; its new length.";
    Sinter      "SINTER"      -2 (1 -1 1) [READONLY] "none" "set" "Members that all sets have, all of one slot.";
    Sintercard  "SINTERCARD"  -3 (0 0 0) [READONLY] "none" "set" "How many members all sets have: number of keys, keys of one slot [LIMIT n].";
    Sinterstore "SINTERSTORE" -3 (1 -1 1) [WRITE | DENYOOM] "none" "set" "SINTER, stored under the first key; how many.";
    Sismember   "SISMEMBER"    3 (1 1 1) [READONLY | FAST | LOCAL] "none" "set" "Whether it is a member.";
    Smembers    "SMEMBERS"     2 (1 1 1) [READONLY | LOCAL] "none" "set" "All members.";
    Smismember  "SMISMEMBER"  -3 (1 1 1) [READONLY | FAST | LOCAL] "none" "set" "Which are members.";
    Smove       "SMOVE"        4 (1 2 1) [WRITE | FAST | DENYOOM] "none" "set" "Move a member to another set of the same slot; 1 if it was there.";
    Sort        "SORT"        -2 (1 1 1) [WRITE | DENYOOM] "none" "keyspace" "Elements of a list, set or sorted set, sorted [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC|DESC] [ALPHA] [STORE key].";
    SortRo      "SORT_RO"     -2 (1 1 1) [READONLY] "none" "keyspace" "As SORT without STORE.";
    Spop        "SPOP"        -2 (1 1 1) [WRITE | FAST] "none" "set" "Take away a random member, or [count] of them.";
    Srandmember "SRANDMEMBER" -2 (1 1 1) [READONLY | LOCAL] "none" "set" "A random member, or [count] of them; a negative count may repeat some.";
    Srem        "SREM"        -3 (1 1 1) [WRITE | FAST | IDEMPOTENT] "none" "set" "Remove members; how many there were.";
    Sscan       "SSCAN"       -3 (1 1 1) [READONLY] "none" "set" "A step through the members [MATCH pattern] [COUNT n].";
    Strlen      "STRLEN"       2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "A value's length, bytes.";
    Substr      "SUBSTR"       4 (1 1 1) [READONLY | LOCAL] "none" "read" "As GETRANGE.";
    Sunion      "SUNION"      -2 (1 -1 1) [READONLY] "none" "set" "Members that any of the sets has, all of one slot.";
    Sunionstore "SUNIONSTORE" -3 (1 -1 1) [WRITE | DENYOOM] "none" "set" "SUNION, stored under the first key; how many.";
    Time        "TIME"         1 (0 0 0) [READONLY | FAST] "any" "server" "[unix seconds, microseconds].";
    Touch       "TOUCH"       -2 (1 -1 1) [READONLY | FAST | LOCAL] "sum" "read" "Mark keys as used; how many exist.";
    Ttl         "TTL"          2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "A key's time to live, seconds; -1 none, -2 no key.";
    Type        "TYPE"         2 (1 1 1) [READONLY | FAST | LOCAL] "none" "read" "A key's kind, or none.";
    Unlink      "UNLINK"      -2 (1 -1 1) [WRITE | IDEMPOTENT] "sum" "keyspace" "As DEL.";
    Zadd        "ZADD"        -4 (1 1 1) [WRITE | FAST | DENYOOM] "none" "zset" "Give members scores (score member ...) [NX|XX] [GT|LT] [CH] [INCR]; how many are new.";
    Zcard       "ZCARD"        2 (1 1 1) [READONLY | FAST | LOCAL] "none" "zset" "Number of members.";
    Zcount      "ZCOUNT"       4 (1 1 1) [READONLY | FAST | LOCAL] "none" "zset" "How many scores lie in a range.";
    Zdiff       "ZDIFF"       -3 (0 0 0) [READONLY] "none" "zset" "Members of the first sorted set that no other of the same slot has, by their number [WITHSCORES].";
    Zdiffstore  "ZDIFFSTORE"  -4 (1 1 1) [WRITE | DENYOOM | IDEMPOTENT] "none" "zset" "Store what ZDIFF gives; how many.";
    Zincrby     "ZINCRBY"      4 (1 1 1) [WRITE | FAST | DENYOOM] "none" "zset" "Add to a member's score; the new score.";
    Zinter      "ZINTER"      -3 (0 0 0) [READONLY] "none" "zset" "Members that all sorted sets of one slot have, by their number [WEIGHTS w ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES].";
    Zintercard  "ZINTERCARD"  -3 (0 0 0) [READONLY] "none" "zset" "How many members all sorted sets of one slot have [LIMIT n].";
    Zinterstore "ZINTERSTORE" -4 (1 1 1) [WRITE | DENYOOM] "none" "zset" "Store what ZINTER gives; how many.";
    Zlexcount   "ZLEXCOUNT"    4 (1 1 1) [READONLY | FAST | LOCAL] "none" "zset" "How many members lie in a range, all having one score.";
    Zmpop       "ZMPOP"       -4 (0 0 0) [WRITE] "none" "zset" "[key, [member, score] ...] of the lowest or highest scores (MIN|MAX) in the first sorted set of one slot that has any [COUNT n].";
    Zmscore     "ZMSCORE"     -3 (1 1 1) [READONLY | FAST | LOCAL] "none" "zset" "Scores of members.";
    Zpopmax     "ZPOPMAX"     -2 (1 1 1) [WRITE | FAST] "none" "zset" "Take the member of the highest score, or several [count]; with scores.";
    Zpopmin     "ZPOPMIN"     -2 (1 1 1) [WRITE | FAST] "none" "zset" "Take the member of the lowest score, or several [count]; with scores.";
    Zrandmember "ZRANDMEMBER" -2 (1 1 1) [READONLY | LOCAL] "none" "zset" "A random member, or several: different ones, with a negative count any [count [WITHSCORES]].";
    Zrange      "ZRANGE"      -4 (1 1 1) [READONLY | LOCAL] "none" "zset" "Members in a range of ranks, scores or members [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES].";
    Zrangebylex "ZRANGEBYLEX" -4 (1 1 1) [READONLY | LOCAL] "none" "zset" "Members in a range of members, all having one score [LIMIT offset count].";
    Zrangebyscore "ZRANGEBYSCORE" -4 (1 1 1) [READONLY | LOCAL] "none" "zset" "Members in a range of scores [WITHSCORES] [LIMIT offset count].";
    Zrangestore "ZRANGESTORE" -5 (1 2 1) [WRITE | DENYOOM] "none" "zset" "Store what ZRANGE gives of another sorted set of the same slot; how many.";
    Zrank       "ZRANK"       -3 (1 1 1) [READONLY | FAST | LOCAL] "none" "zset" "How many members stand before one [WITHSCORE].";
    Zrem        "ZREM"        -3 (1 1 1) [WRITE | FAST | IDEMPOTENT] "none" "zset" "Remove members; how many there were.";
    Zremrangebylex "ZREMRANGEBYLEX" 4 (1 1 1) [WRITE | IDEMPOTENT] "none" "zset" "Remove a range of members, all having one score; how many.";
    Zremrangebyrank "ZREMRANGEBYRANK" 4 (1 1 1) [WRITE] "none" "zset" "Remove a range of ranks; how many.";
    Zremrangebyscore "ZREMRANGEBYSCORE" 4 (1 1 1) [WRITE | IDEMPOTENT] "none" "zset" "Remove a range of scores; how many.";
    Zrevrange   "ZREVRANGE"   -4 (1 1 1) [READONLY | LOCAL] "none" "zset" "As ZRANGE, the highest first [WITHSCORES].";
    Zrevrangebylex "ZREVRANGEBYLEX" -4 (1 1 1) [READONLY | LOCAL] "none" "zset" "As ZRANGEBYLEX backward, the upper end first.";
    Zrevrangebyscore "ZREVRANGEBYSCORE" -4 (1 1 1) [READONLY | LOCAL] "none" "zset" "As ZRANGEBYSCORE backward, the upper end first.";
    Zrevrank    "ZREVRANK"    -3 (1 1 1) [READONLY | FAST | LOCAL] "none" "zset" "How many members stand behind one [WITHSCORE].";
    Zscan       "ZSCAN"       -3 (1 1 1) [READONLY] "none" "zset" "A step through the members and scores [MATCH pattern] [COUNT n].";
    Zscore      "ZSCORE"       3 (1 1 1) [READONLY | FAST | LOCAL] "none" "zset" "A member's score.";
    Zunion      "ZUNION"      -3 (0 0 0) [READONLY] "none" "zset" "Members of all sorted sets of one slot, by their number [WEIGHTS w ...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES].";
    Zunionstore "ZUNIONSTORE" -4 (1 1 1) [WRITE | DENYOOM] "none" "zset" "Store what ZUNION gives; how many.";
}

/// Longest name that `find` looks for, bytes; a test holds the table to it.
const NAME_MAX: usize = 24;

/// The row of a command by its name in any case.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut upper = [0u8; NAME_MAX];
    if name.len() > upper.len() {
        return None;
    }
    let upper = &mut upper[..name.len()];
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    COMMANDS
        .binary_search_by(|spec| spec.name.as_bytes().cmp(upper))
        .ok()
        .map(|at| &COMMANDS[at])
}

impl Spec {
    #[inline]
    pub fn arity_fits(&self, arguments: usize) -> bool {
        let arity = self.arity as i64;
        if arity >= 0 {
            arguments as i64 == arity
        } else {
            arguments as i64 >= -arity
        }
    }

    pub fn has_keys(&self) -> bool {
        self.keys.0 != 0 || self.numkeys != 0
    }

    /// Positions of the keys among the arguments, the name being number 0. A number of keys that is wrong names none: the command refuses it.
    #[inline]
    pub fn key_positions(&self, args: &[&[u8]]) -> impl Iterator<Item = usize> + use<> {
        let (first, last, step) = self.keys;
        let fixed = if first == 0 {
            (0..0).step_by(1)
        } else {
            let end = if last < 0 {
                (args.len() as i32 + last + 1).max(0) as usize
            } else {
                (last as usize + 1).min(args.len())
            };
            (first as usize..end).step_by(step as usize)
        };
        let told = match self.numkeys {
            0 => 0..0,
            at => {
                let count = args.get(at).and_then(|text| super::number::parse_int(text)).unwrap_or(0);
                let rest = args.len().saturating_sub(at + 1);
                at + 1..at + 1 + usize::try_from(count).unwrap_or(0).min(rest)
            }
        };
        fixed.chain(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_found_in_any_case() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for (number, spec) in COMMANDS.iter().enumerate() {
            assert_eq!(spec.command as usize, number);
            assert!(spec.name.len() <= NAME_MAX);
            assert_eq!(
                find(spec.name.to_lowercase().as_bytes()).map(|found| found.name),
                Some(spec.name)
            );
            assert_ne!(
                spec.flags & WRITE != 0,
                spec.flags & READONLY != 0,
                "{} writes or reads",
                spec.name
            );
        }
        assert!(find(b"NOSUCH").is_none());
    }

    #[test]
    fn key_positions_follow_the_row() {
        assert_eq!(
            find(b"MSET")
                .unwrap()
                .key_positions(&[b"x".as_slice(); 5])
                .collect::<Vec<_>>(),
            [1, 3]
        );
        assert_eq!(
            find(b"DEL").unwrap().key_positions(&[b"x".as_slice(); 4]).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        assert_eq!(
            find(b"RENAME")
                .unwrap()
                .key_positions(&[b"x".as_slice(); 3])
                .collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(
            find(b"BITOP")
                .unwrap()
                .key_positions(&[b"x".as_slice(); 5])
                .collect::<Vec<_>>(),
            [2, 3, 4]
        );
        assert_eq!(
            find(b"OBJECT")
                .unwrap()
                .key_positions(&[b"x".as_slice(); 3])
                .collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(find(b"OBJECT").unwrap().key_positions(&[b"x".as_slice(); 2]).count(), 0);
        assert_eq!(find(b"PING").unwrap().key_positions(&[b"x".as_slice(); 1]).count(), 0);
    }
}
