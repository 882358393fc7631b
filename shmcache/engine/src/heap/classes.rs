//! Size classes: every 8 bytes up to 512, then eight to each doubling up to 16 KiB (so at most 1/9 is lost to rounding).

use crate::layout::{MAX_SLAB_ENTRY_BYTES, SLAB_BYTES};

const FINE_BYTES: u64 = 512;
const FINE_CLASSES: usize = 64;
/// Classes of entries.
pub const ENTRY_CLASSES: usize = FINE_CLASSES + 40;
/// Overflow buckets have a class of their own: other pages can be emptied by moving entries, theirs not.
pub const BUCKET_CLASS: usize = ENTRY_CLASSES;
pub const CLASSES: usize = ENTRY_CLASSES + 1;

/// The smallest class that holds `bytes` (1..=MAX_SLAB_ENTRY_BYTES).
#[inline]
pub fn class_of(bytes: u64) -> usize {
    debug_assert!(bytes > 0 && bytes <= MAX_SLAB_ENTRY_BYTES);
    if bytes <= FINE_BYTES {
        return (bytes.div_ceil(8) - 1) as usize;
    }
    let last = bytes - 1;
    let doubling = 63 - last.leading_zeros();
    FINE_CLASSES + (doubling as usize - 9) * 8 + (last >> (doubling - 3) & 7) as usize
}

/// Bytes of a class' places.
#[inline]
pub fn class_bytes(class: usize) -> u64 {
    if class == BUCKET_CLASS {
        return crate::layout::BUCKET_BYTES;
    }
    if class < FINE_CLASSES {
        return (class as u64 + 1) * 8;
    }
    let coarse = (class - FINE_CLASSES) as u64;
    let base = FINE_BYTES << (coarse / 8);
    base + (coarse % 8 + 1) * (base / 8)
}

/// Places in a slab of this class.
#[inline]
pub fn class_places(class: usize) -> u64 {
    SLAB_BYTES / class_bytes(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_gets_the_smallest_class_that_holds_it() {
        for bytes in 1..=MAX_SLAB_ENTRY_BYTES {
            let class = class_of(bytes);
            assert!(class < ENTRY_CLASSES);
            assert!(class_bytes(class) >= bytes);
            assert!(class == 0 || class_bytes(class - 1) < bytes);
        }
        assert_eq!(class_of(MAX_SLAB_ENTRY_BYTES), ENTRY_CLASSES - 1);
    }
}
