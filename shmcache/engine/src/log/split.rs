//! A stream of log records divided among the shards of another host, whose number is its own affair.

use super::record::{records, Effect, Record, Regrouped};
use crate::layout::SLOT_COUNT;
use crate::slots::slot_of;

const BITMAP_BYTES: usize = SLOT_COUNT / 8;

/// The input is damaged at this byte, and how.
pub type Damage = (usize, &'static str);

/// Check all records; how many there are.
pub fn check(data: &[u8]) -> Result<u64, Damage> {
    let mut count = 0;
    for item in records(data) {
        item?;
        count += 1;
    }
    Ok(count)
}

/// Give each record to the shard that owns its slot (`slots`: slot -> shard), but those of node `drop_node` (0: none such) to nobody. Order
/// is kept within a shard. A group becomes a group in each shard that has a part of it.
pub fn split(data: &[u8], slots: &[u16], shards: usize, drop_node: u16) -> Result<Vec<Vec<u8>>, Damage> {
    debug_assert!(slots.len() == SLOT_COUNT && slots.iter().all(|&shard| (shard as usize) < shards));
    let room = data.len() / shards / 8 * 9;
    let mut parts: Vec<Regrouped> = (0..shards).map(|_| Regrouped::onto(Vec::with_capacity(room))).collect();
    // Shards that have a part of the group under way, if that is of several records.
    let mut touched: Vec<usize> = Vec::new();
    let mut at = 0;
    let mut open = false;
    for item in records(data) {
        let (record, end) = item?;
        let bytes = &data[at..end];
        if drop_node == 0 || record.node != drop_node {
            if record.effect == Effect::Flush {
                for shard in flushed_shards(&record, slots, shards).map_err(|what| (at, what))? {
                    parts[shard].push(bytes);
                    touched.push(shard);
                }
            } else {
                let shard = slots[slot_of(record.key) as usize] as usize;
                parts[shard].push(bytes);
                touched.push(shard);
            }
        }
        open = record.more;
        if !open {
            for shard in touched.drain(..) {
                parts[shard].end_group();
            }
        }
        at = end;
    }
    if open {
        return Err((at, "the records end within a group"));
    }
    Ok(parts.into_iter().map(|part| part.bytes).collect())
}

/// Shards that own one of the slots that a flush is about.
fn flushed_shards(record: &Record, slots: &[u16], shards: usize) -> Result<Vec<usize>, &'static str> {
    let named: Box<dyn Fn(usize) -> bool> = match record.value.len() {
        0 => Box::new(|_| true),
        BITMAP_BYTES => Box::new(|slot| record.value[slot / 8] >> (slot % 8) & 1 == 1),
        _ => return Err("a flush has neither all slots nor a bitmap of them"),
    };
    let mut owns = vec![false; shards];
    for (slot, &shard) in slots.iter().enumerate() {
        owns[shard as usize] |= named(slot);
    }
    Ok((0..shards).filter(|&shard| owns[shard]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Kind;

    fn record<'a>(key: &'a [u8], effect: Effect, value: &'a [u8], node: u16, more: bool) -> Record<'a> {
        Record {
            seq: 1,
            stamp: 2,
            epoch: 3,
            node,
            effect,
            kind: Kind::String,
            event: 0,
            more,
            deadline: 0,
            key,
            value,
        }
    }

    fn encoded(all: &[Record]) -> Vec<u8> {
        let mut bytes = Vec::new();
        all.iter().for_each(|record| record.encode(&mut bytes));
        bytes
    }

    /// The lower half of the slots is shard 0's.
    fn halves() -> Vec<u16> {
        (0..SLOT_COUNT).map(|slot| (slot >= SLOT_COUNT / 2) as u16).collect()
    }

    #[test]
    fn a_group_becomes_one_group_per_shard() {
        // foo: slot 12182; bar: 5061; the empty key: 0.
        let set = |key, more| record(key, Effect::Set, b"v", 0, more);
        let data = encoded(&[
            set(b"foo", true),
            set(b"bar", true),
            set(b"foo", true),
            set(b"", false),
            set(b"foo", false),
        ]);
        let parts = split(&data, &halves(), 2, 0).unwrap();
        assert_eq!(parts[0], encoded(&[set(b"bar", true), set(b"", false)]));
        assert_eq!(
            parts[1],
            encoded(&[set(b"foo", true), set(b"foo", false), set(b"foo", false)])
        );
    }

    #[test]
    fn own_records_are_left_out() {
        let set = |node, more| record(b"foo", Effect::Set, b"v", node, more);
        let data = encoded(&[set(1, true), set(2, false), set(2, false)]);
        assert_eq!(split(&data, &halves(), 2, 2).unwrap(), [vec![], encoded(&[set(1, false)])]);
        assert_eq!(split(&data, &halves(), 2, 0).unwrap(), [vec![], data]);
    }

    #[test]
    fn a_flush_goes_to_whom_it_concerns() {
        let everything = encoded(&[record(b"", Effect::Flush, b"", 0, false)]);
        assert_eq!(
            split(&everything, &halves(), 3, 0).unwrap(),
            [everything.clone(), everything, vec![]]
        );
        let mut bitmap = [0; BITMAP_BYTES];
        bitmap[BITMAP_BYTES - 1] = 1;
        let one_slot = encoded(&[record(b"", Effect::Flush, &bitmap, 0, false)]);
        assert_eq!(split(&one_slot, &halves(), 2, 0).unwrap(), [vec![], one_slot]);
        let neither = encoded(&[record(b"", Effect::Flush, b"x", 0, false)]);
        assert!(split(&neither, &halves(), 2, 0).is_err());
    }

    #[test]
    fn half_a_group_is_an_error() {
        let data = encoded(&[record(b"foo", Effect::Set, b"v", 0, true)]);
        assert_eq!(
            split(&data, &halves(), 2, 0),
            Err((data.len(), "the records end within a group"))
        );
    }
}
