//! Byte positions in the header of a data region. Each group that one side reads often has a cache line of its own.
//! Fields that an older program did not know are zeros in its regions, and zero means what it did.

pub const MAGIC: u64 = 0;
pub const LAYOUT_VERSION: u64 = 8;
pub const REGION_BYTES: u64 = 16;
pub const PAGE_TABLE_BASE: u64 = 24;
pub const INDEX_BASE: u64 = 32;
pub const HEAP_BASE: u64 = 40;
pub const HASH_SEED: u64 = 48;
pub const SHARD: u64 = 56;
pub const SHARDS: u64 = 64;
pub const CREATED_MS: u64 = 72;

// Line 2 (128): all that a reader needs at each lookup.
pub const INDEX_STATE: u64 = 128;
pub const STATE: u64 = 136;
/// End of the memory a reader may touch, bytes from the region's start.
pub const HEAP_COMMITTED: u64 = 144;
/// What readers write into the hints at a hit: see `hints.rs`.
pub const MARK_MODE: u64 = 152;
pub const MARK_CLOCK: u64 = 160;
pub const LFU_LOG_FACTOR: u64 = 168;

// Line 3 (192): the owner's journal, written at each mutation.
/// Sequence number of the last log record that is in the data.
pub const APPLIED_SEQ: u64 = 192;
/// Log position behind that record: recovery redoes from here.
pub const APPLIED_POSITION: u64 = 224;
pub const LAST_STAMP: u64 = 200;
/// Bucket being changed, plus one; 0 = none.
pub const CHANGING_BUCKET: u64 = 208;
/// 1 after a clean stop, 0 while owned.
pub const CLEAN: u64 = 216;

// Line 4 (256): identity of the owner, written at attach and at each tick.
pub const GENERATION: u64 = 256;
pub const OWNER_PID: u64 = 264;
pub const HEARTBEAT_MS: u64 = 272;
pub const KEYS: u64 = 280;
pub const USED_BYTES: u64 = 288;

// Line 5 (320): configuration that outlives the owner.
pub const MEMORY_BYTES: u64 = 320;
pub const POLICY: u64 = 328;
pub const EPOCH: u64 = 336;
pub const SAMPLES: u64 = 344;
pub const LFU_DECAY_MS: u64 = 352;

/// 1: this shard repeats what another instance writes (docs/log.md).
pub const REPLICA: u64 = 360;
/// XXH3-64 of the slot bitmap that holds all entries' slots; 0 = not known.
pub const HELD_SLOTS: u64 = 368;
/// Own number among several writers, 0 = there is one writer.
pub const NODE: u64 = 376;
/// How long a deletion is remembered.
pub const TOMBSTONE_LIFE_MS: u64 = 384;
/// Entries of the kind Tombstone; KEYS does not count them.
pub const TOMBSTONES: u64 = 392;
/// Parts of large collections; KEYS does not count them.
pub const PARTS: u64 = 400;

/// Flush marks, two words each (`owner/marks.rs`): a flush is remembered here instead of by a tombstone for each key.
pub const FLUSH_MARKS: u64 = 512;
pub const FLUSH_MARK_COUNT: usize = 64;
pub const FLUSH_MARK_BYTES: u64 = 16;

/// A prepared group (`owner/prepared.rs`): its token, 0 = there is none; the shard that decides about it; the log's head when it was prepared, and the
/// position behind its records.
pub const PREPARED_TOKEN: u64 = 1536;
pub const PREPARED_DECIDER: u64 = 1544;
pub const PREPARED_FROM: u64 = 1552;
pub const PREPARED_TO: u64 = 1560;
/// A token for each shard: of the last transaction with that shard that was decided here.
pub const DECISIONS: u64 = 1600;
pub const DECISION_COUNT: u64 = 256;

/// End of the last field; the header takes a page.
pub const END: u64 = DECISIONS + DECISION_COUNT * 8;
pub const BYTES: u64 = 4096;
