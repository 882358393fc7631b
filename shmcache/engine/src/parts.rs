//! Names of the parts of large collections.
//!
//! A large collection is a root entry under its key and one entry per element, its *parts*. A part is an entry of the same index as every key,
//! so that finding, logging, replaying, copying and repairing it is what it is for any entry. Its name is a key that no user can give:
//! ```text
//!  0        4      6          14
//! | PREFIX | slot | id        | name: the hash's field, the member, or the position in the list (8 bytes, big-endian)
//! ```
//! The slot is that of the collection's key, so parts go wherever their root goes. The id is the collection's own: a key that is deleted and
//! made anew has another one, and what is left of the former is garbage that no lookup meets.

use crate::layout::MAX_KEY_BYTES;
use smallvec::SmallVec;

/// No user key may begin with this.
pub const PREFIX: [u8; 4] = [0xff, b'P', 0x00, 0xff];
const SLOT_AT: usize = 4;
const ID_AT: usize = 6;
pub const NAME_AT: usize = 14;
/// Longest field or member of a collection.
pub const MAX_NAME_BYTES: usize = MAX_KEY_BYTES - NAME_AT;

pub type PartKey = SmallVec<[u8; 64]>;

#[inline]
pub fn is_part_key(key: &[u8]) -> bool {
    key.len() >= NAME_AT && key[..SLOT_AT] == PREFIX
}

/// True for a key that is kept for the parts.
#[inline]
pub fn is_reserved(key: &[u8]) -> bool {
    key.len() >= PREFIX.len() && key[..SLOT_AT] == PREFIX
}

#[inline]
pub fn part_key(slot: u16, id: u64, name: &[u8]) -> PartKey {
    let mut key = PartKey::with_capacity(NAME_AT + name.len());
    key.extend_from_slice(&PREFIX);
    key.extend_from_slice(&slot.to_le_bytes());
    key.extend_from_slice(&id.to_le_bytes());
    key.extend_from_slice(name);
    key
}

/// The slot of a part key.
#[inline]
pub fn slot_in(key: &[u8]) -> u16 {
    u16::from_le_bytes([key[SLOT_AT], key[SLOT_AT + 1]])
}

/// The collection of a part key.
#[inline]
pub fn id_in(key: &[u8]) -> u64 {
    u64::from_le_bytes(key[ID_AT..NAME_AT].try_into().expect("eight bytes"))
}

#[inline]
pub fn name_in(key: &[u8]) -> &[u8] {
    &key[NAME_AT..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::slot_of;

    #[test]
    fn a_part_lies_in_the_slot_of_its_collection() {
        let key = part_key(slot_of(b"foo"), 7, b"{bar}");
        assert!(is_part_key(&key));
        assert_eq!(
            (slot_of(&key), id_in(&key), name_in(&key)),
            (slot_of(b"foo"), 7, &b"{bar}"[..])
        );
        assert!(!is_part_key(b"foo") && !is_reserved(b"foo") && is_reserved(&PREFIX));
    }
}
