//! Byte layout of a shard's regions, version 1. `docs/layout.md` tells the same in prose.
//!
//! Every number in shared memory is a little-endian integer of fixed width; every reference is an
//! [`Offset`]: bytes from the start of the data region, a multiple of 8. All access goes by aligned
//! 64-bit words (see `memory.rs`), so that a racing reader sees old or new words, never halves.
//!
//! # Data region
//! ```text
//! 0         4096            index_base        heap_base                     region_bytes
//! | Header  | page table …  | buckets …       | heap pages …                 |
//! ```
//! All three areas are address space reserved at creation; memory is taken (fallocate) as each grows.
//!
//! # Index word: one place in a bucket
//! ```text
//!  63            48 47                                        3 2 1 0
//! +----------------+-------------------------------------------+-+-+-+
//! | tag (16)       | offset / 8 (45)                           |t|v|l|
//! +----------------+-------------------------------------------+-+-+-+
//! l: link to an overflow bucket (last place only)   v: the entry has a deadline   t: it is a tombstone
//! ```
//! 0 is an empty place (no entry lies at offset 0).
//!
//! # Bucket: one cache line
//! ```text
//! word 0      version: odd while the owner changes the bucket or its overflow chain
//! words 1..7  index words; the last may be a link to an overflow bucket of the same shape
//!             (whose word 0 is unused)
//! ```
//!
//! # Entry
//! ```text
//! word 0      stamp
//! word 1      meta (below)
//! [word 2]    deadline, unix ms, 0 = none; present if the flag HAS_DEADLINE is set
//! key         padded with zeros to a multiple of 8
//! value       padded with zeros to a multiple of 8
//!
//! meta:
//!  63       55  54 53 52    49 48            32 31                             0
//! +-----------+---+--+--------+----------------+--------------------------------+
//! | node (9)  | s |v |kind (4)| key bytes (17) | value bytes (32)               |
//! +-----------+---+--+--------+----------------+--------------------------------+
//! v: has a deadline   s: stale, a full sync has not confirmed it yet   node: who wrote it, 0 = the only writer
//! ```
//!
//! # State of the index (linear hashing, Litwin 1980)
//! ```text
//!  63            48 47     40 39                                              0
//! +----------------+---------+------------------------------------------------+
//! | flush epoch    | level L | split s                                        |
//! +----------------+---------+------------------------------------------------+
//! ```
//! There are 2^L + s buckets. A hash belongs to bucket h mod 2^L, or, if that is below s, to h mod 2^(L+1).
//! The flush epoch changes when all buckets are dropped at once.

/// Version of everything in this file. A region of another version is refused, never guessed at.
pub const LAYOUT_VERSION: u64 = 1;
pub const MAGIC_DATA: u64 = u64::from_le_bytes(*b"shmcDATA");
pub const MAGIC_HINTS: u64 = u64::from_le_bytes(*b"shmcHINT");
pub const MAGIC_LOG: u64 = u64::from_le_bytes(*b"shmc_LOG");

pub const WORD: u64 = 8;
pub const SLOT_COUNT: usize = 16384;
pub const MAX_KEY_BYTES: usize = 1 << 16;
pub const MAX_VALUE_BYTES: usize = 512 << 20;
/// Smallest memory limit of a shard: below, the rounding of pages would be most of it.
pub const MIN_MEMORY_BYTES: u64 = 1 << 20;

/// Distance from the start of the data region, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Offset(pub u64);

impl Offset {
    pub const NONE: Offset = Offset(0);

    #[inline]
    pub fn plus(self, bytes: u64) -> Offset {
        Offset(self.0 + bytes)
    }
}

// ---------------------------------------------------------------- header of the data region

pub mod header;

/// Values of `header::STATE`.
pub const STATE_SERVING: u64 = 1;
pub const STATE_RETIRED: u64 = 2;

// ---------------------------------------------------------------- index words and buckets

pub const BUCKET_BYTES: u64 = 64;
pub const PLACES: usize = 7;

/// One place of a bucket: tag, offset and flags in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexWord(pub u64);

impl IndexWord {
    pub const EMPTY: IndexWord = IndexWord(0);
    const LINK: u64 = 1;
    const HAS_DEADLINE: u64 = 2;
    const TOMBSTONE: u64 = 4;
    const OFFSET_MASK: u64 = (1 << 48) - 8;

    #[inline]
    pub fn entry(tag: u16, offset: Offset, meta: Meta) -> IndexWord {
        debug_assert!(offset.0 & !Self::OFFSET_MASK == 0);
        let deadline = if meta.has_deadline() { Self::HAS_DEADLINE } else { 0 };
        let tombstone = if meta.is_tombstone() { Self::TOMBSTONE } else { 0 };
        IndexWord((tag as u64) << 48 | offset.0 | deadline | tombstone)
    }

    #[inline]
    pub fn link(offset: Offset) -> IndexWord {
        debug_assert!(offset.0 & !Self::OFFSET_MASK == 0);
        IndexWord(offset.0 | Self::LINK)
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub fn is_link(self) -> bool {
        self.0 & Self::LINK != 0
    }

    #[inline]
    pub fn has_deadline(self) -> bool {
        self.0 & Self::HAS_DEADLINE != 0
    }

    #[inline]
    pub fn is_tombstone(self) -> bool {
        self.0 & Self::TOMBSTONE != 0
    }

    #[inline]
    pub fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline]
    pub fn offset(self) -> Offset {
        Offset(self.0 & Self::OFFSET_MASK)
    }
}

/// The tag lies in the top bits of the hash; buckets take the low ones.
#[inline]
pub fn tag_of(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// `header::INDEX_STATE`, unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexState(pub u64);

impl IndexState {
    const SPLIT_MASK: u64 = (1 << 40) - 1;

    pub fn new(flush_epoch: u16, level: u32, split: u64) -> IndexState {
        debug_assert!(level < 40 && split < 1 << level);
        IndexState((flush_epoch as u64) << 48 | (level as u64) << 40 | split)
    }

    #[inline]
    pub fn flush_epoch(self) -> u16 {
        (self.0 >> 48) as u16
    }

    #[inline]
    pub fn level(self) -> u32 {
        (self.0 >> 40) as u32 & 0xff
    }

    #[inline]
    pub fn split(self) -> u64 {
        self.0 & Self::SPLIT_MASK
    }

    #[inline]
    pub fn buckets(self) -> u64 {
        (1 << self.level()) + self.split()
    }

    #[inline]
    pub fn bucket_of(self, hash: u64) -> u64 {
        let low = hash & ((1 << self.level()) - 1);
        if low < self.split() {
            hash & ((2 << self.level()) - 1)
        } else {
            low
        }
    }

    /// How many low hash bits all keys of `bucket` share: L+1 if it has been split or is the new half, else L.
    #[inline]
    pub fn local_level(self, bucket: u64) -> u32 {
        let half = 1 << self.level();
        if bucket < self.split() || bucket >= half {
            self.level() + 1
        } else {
            self.level()
        }
    }

    /// The state after one more bucket has been split.
    pub fn next(self) -> IndexState {
        if self.split() + 1 == 1 << self.level() {
            IndexState::new(self.flush_epoch(), self.level() + 1, 0)
        } else {
            IndexState::new(self.flush_epoch(), self.level(), self.split() + 1)
        }
    }
}

// ---------------------------------------------------------------- entries

mod kind;
pub use kind::Kind;

/// Largest number of a node.
pub const MAX_NODE: u16 = 511;

/// When and by whom something was written. Of two writes of a key the one with the larger origin stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Origin {
    pub stamp: u64,
    pub node: u16,
}

/// The second word of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta(pub u64);

impl Meta {
    const HAS_DEADLINE: u64 = 1 << 53;
    pub const STALE: u64 = 1 << 54;
    const NODE_SHIFT: u32 = 55;
    const KEY_SHIFT: u32 = 32;
    const KEY_MASK: u64 = (1 << 17) - 1;
    const KIND_SHIFT: u32 = 49;
    const KIND_MASK: u64 = 15;

    #[inline]
    pub fn new(kind: Kind, key_bytes: usize, value_bytes: usize, has_deadline: bool) -> Meta {
        debug_assert!(key_bytes <= MAX_KEY_BYTES && value_bytes <= MAX_VALUE_BYTES);
        Meta(
            value_bytes as u64
                | (key_bytes as u64) << Self::KEY_SHIFT
                | (kind as u64) << Self::KIND_SHIFT
                | if has_deadline { Self::HAS_DEADLINE } else { 0 },
        )
    }

    #[inline]
    pub fn with_node(self, node: u16) -> Meta {
        debug_assert!(node <= MAX_NODE);
        Meta(self.0 & ((1 << Self::NODE_SHIFT) - 1) | (node as u64) << Self::NODE_SHIFT)
    }

    #[inline]
    pub fn node(self) -> u16 {
        (self.0 >> Self::NODE_SHIFT) as u16
    }

    #[inline]
    pub fn is_stale(self) -> bool {
        self.0 & Self::STALE != 0
    }

    #[inline]
    pub fn is_tombstone(self) -> bool {
        self.kind_code() == Kind::Tombstone as u8
    }

    /// A part of a large collection.
    #[inline]
    pub fn is_part(self) -> bool {
        (Kind::HashPart as u8..=Kind::ZsetPart as u8).contains(&self.kind_code())
    }

    /// A hash, list, set or sorted set, whole or its root.
    #[inline]
    pub fn is_collection(self) -> bool {
        (Kind::Hash as u8..=Kind::Zset as u8).contains(&self.kind_code())
    }

    #[inline]
    pub fn value_bytes(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    #[inline]
    pub fn key_bytes(self) -> u64 {
        self.0 >> Self::KEY_SHIFT & Self::KEY_MASK
    }

    /// The kind of an entry that an owner wrote.
    #[inline]
    pub fn kind(self) -> Kind {
        Kind::from_code(self.kind_code()).expect("the owner wrote it")
    }

    #[inline]
    pub fn kind_code(self) -> u8 {
        (self.0 >> Self::KIND_SHIFT & Self::KIND_MASK) as u8
    }

    #[inline]
    pub fn has_deadline(self) -> bool {
        self.0 & Self::HAS_DEADLINE != 0
    }

    /// Where the key begins, from the entry's start.
    #[inline]
    pub fn key_at(self) -> u64 {
        if self.has_deadline() {
            3 * WORD
        } else {
            2 * WORD
        }
    }

    /// Where the value begins, from the entry's start.
    #[inline]
    pub fn value_at(self) -> u64 {
        self.key_at() + padded(self.key_bytes())
    }

    #[inline]
    pub fn entry_bytes(self) -> u64 {
        self.value_at() + padded(self.value_bytes())
    }
}

/// Kind of an entry that stands for a deleted key: no command finds it, replication ships it as a deletion.
pub const TOMBSTONE_CODE: u8 = 15;

#[inline]
pub fn padded(bytes: u64) -> u64 {
    (bytes + 7) & !7
}

// ---------------------------------------------------------------- heap

pub const PAGE_BYTES: u64 = 4096;
/// Pages of one slab: a run of entries of one size class.
pub const SLAB_PAGES: u64 = 16;
pub const SLAB_BYTES: u64 = SLAB_PAGES * PAGE_BYTES;
/// Largest entry that lives in a slab; a larger one has a run of pages of its own.
pub const MAX_SLAB_ENTRY_BYTES: u64 = 16384;
/// Memory is taken from the system in pieces of this size.
pub const EXTENT_BYTES: u64 = 2 << 20;

/// Page table: one byte per heap page, the size class plus one at the first page of a slab, 0 elsewhere. Pages of large entries and free
/// pages need no mark: the walk of the index finds the former, the rest is the latter.
pub const NO_SLAB: u8 = 0;

// ---------------------------------------------------------------- hints region

/// The hints region: `[header page][client table][marks]`. Anyone attached may write in it.
pub mod hints {
    pub const MAGIC: u64 = 0;
    pub const LAYOUT_VERSION: u64 = 8;
    pub const CLIENTS_AT: u64 = 4096;
    pub const CLIENT_BYTES: u64 = 64;
    pub const CLIENTS: u64 = 1024;
    /// Fields of a client's place.
    pub const CLIENT_PID: u64 = 0;
    pub const CLIENT_HITS: u64 = 8;
    pub const CLIENT_MISSES: u64 = 16;
    pub const CLIENT_RETRIES: u64 = 24;
    pub const CLIENT_ATTACHED_MS: u64 = 32;
    pub const CLIENT_RANDOM: u64 = 40;
    /// Marks: a byte for each word of the data region from the first bucket on; only those of buckets and overflow buckets have memory.
    pub const MARKS_AT: u64 = CLIENTS_AT + CLIENTS * CLIENT_BYTES;
}

// ---------------------------------------------------------------- log region

/// The log region: `[header page][tailer table in it][ring]`.
pub mod log {
    pub const MAGIC: u64 = 0;
    pub const LAYOUT_VERSION: u64 = 8;
    pub const RING_BYTES: u64 = 16;
    /// Positions count bytes since the log began; position mod RING_BYTES is the place in the ring.
    pub const HEAD: u64 = 64;
    pub const HEAD_SEQ: u64 = 72;
    /// Everything below has been, or is about to be, overwritten.
    pub const TAIL: u64 = 128;
    /// A bit for each tailer that sleeps until there is something to read (`log/waiting.rs`).
    pub const WAITING: u64 = 192;
    pub const TAILERS_AT: u64 = 1024;
    pub const TAILER_BYTES: u64 = 64;
    pub const TAILERS: u64 = 32;
    /// Fields of a tailer's place.
    pub const TAILER_PID: u64 = 0;
    pub const TAILER_POSITION: u64 = 8;
    pub const TAILER_SEEN_MS: u64 = 16;
    pub const TAILER_NAME: u64 = 24;
    pub const TAILER_NAME_BYTES: u64 = 24;
    pub const RING_AT: u64 = 4096;
}

const _: () = {
    assert!(header::END <= header::BYTES);
    assert!(BUCKET_BYTES == WORD * (PLACES as u64 + 1));
    assert!(MAX_VALUE_BYTES < 1 << 32 && MAX_KEY_BYTES < 1 << 17);
    assert!(log::TAILERS_AT + log::TAILERS * log::TAILER_BYTES <= log::RING_AT);
    assert!(log::TAILERS <= 64, "a bit each in the word WAITING");
    assert!(log::TAILER_NAME + log::TAILER_NAME_BYTES <= log::TAILER_BYTES);
    assert!(hints::MARKS_AT.is_multiple_of(4096));
    assert!(EXTENT_BYTES.is_multiple_of(SLAB_BYTES));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_words_keep_what_is_put_in() {
        let word = IndexWord::entry(0xbeef, Offset(0xffff_ffff_fff8), Meta::new(Kind::Tombstone, 1, 0, true));
        assert!(word.is_tombstone());
        assert_eq!(word.tag(), 0xbeef);
        assert_eq!(word.offset(), Offset(0xffff_ffff_fff8));
        assert!(word.has_deadline() && !word.is_link() && !word.is_empty());
        assert!(IndexWord::link(Offset(64)).is_link());
    }

    #[test]
    fn meta_holds_the_largest_key_and_value() {
        let meta = Meta::new(Kind::String, MAX_KEY_BYTES, MAX_VALUE_BYTES, true).with_node(MAX_NODE);
        assert_eq!(meta.node(), MAX_NODE);
        assert!(!meta.is_stale() && Meta(meta.0 | Meta::STALE).entry_bytes() == meta.entry_bytes());
        assert_eq!(meta.key_bytes(), MAX_KEY_BYTES as u64);
        assert_eq!(meta.value_bytes(), MAX_VALUE_BYTES as u64);
        assert_eq!(meta.kind_code(), Kind::String as u8);
        assert!(meta.has_deadline());
    }

    #[test]
    fn each_hash_has_one_bucket_at_every_size() {
        let mut state = IndexState::new(0, 1, 0);
        for _ in 0..100 {
            for hash in 0..1000u64 {
                let bucket = state.bucket_of(hash);
                assert!(bucket < state.buckets());
                let mask = (1u64 << state.local_level(bucket)) - 1;
                assert_eq!(hash & mask, bucket, "a bucket holds the hashes that end in its number");
            }
            let before = state.buckets();
            state = state.next();
            assert_eq!(state.buckets(), before + 1);
        }
    }
}
