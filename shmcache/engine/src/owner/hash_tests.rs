//! Hashes through groups that fail, kills, replay and deletion in slices.

use super::stories::{is_what_was_written, survives_kills, Model, Story};
use super::testing::{run, Random};
use super::{Entry, Owner};
use crate::layout::Kind;
use std::collections::BTreeMap;
use std::time::Duration;

struct Hashes;

impl Story for Hashes {
    type Content = BTreeMap<Vec<u8>, Vec<u8>>;
    const PREFIX: &'static str = "h";
    const KEYS: u64 = 4;

    fn content(owner: &mut Owner, key: &[u8], entry: Entry) -> Self::Content {
        let elements = owner.elements(key, Kind::Hash, entry);
        elements.into_iter().map(|element| (element.name, element.value)).collect()
    }

    fn step(random: &mut Random, owner: &mut Owner, model: &mut Model<Hashes>) {
        let key = format!("h{}", random.below(4)).into_bytes();
        let field = format!("field:{}", random.below(400)).into_bytes();
        match random.below(100) {
            0..=69 => {
                let value = vec![random.number() as u8; random.below(90) as usize];
                run(owner, &[b"HSET", &key, &field, &value]);
                model.entry(key).or_default().insert(field, value);
            }
            70..=84 => {
                run(owner, &[b"HDEL", &key, &field]);
                if let Some(hash) = model.get_mut(&key) {
                    hash.remove(&field);
                    if hash.is_empty() {
                        model.remove(&key);
                    }
                }
            }
            85..=94 => {
                let fields: Vec<Vec<u8>> = (0..12).map(|_| format!("field:{}", random.below(400)).into_bytes()).collect();
                let mut args: Vec<&[u8]> = vec![b"HSET", &key];
                args.extend(fields.iter().flat_map(|field| [field.as_slice(), b"many"]));
                run(owner, &args);
                let hash = model.entry(key).or_default();
                hash.extend(fields.into_iter().map(|field| (field, b"many".to_vec())));
            }
            95 => {
                // A group that is given up leaves nothing.
                owner.open_group();
                run(owner, &[b"HSET", &key, &field, b"never"]);
                run(owner, &[b"HDEL", &key, b"field:1"]);
                owner.abandon_group();
            }
            96..=97 => {
                let to = format!("h{}", random.below(4)).into_bytes();
                run(owner, &[b"COPY", &key, &to, b"REPLACE"]);
                if let (Some(hash), true) = (model.get(&key).cloned(), key != to) {
                    model.insert(to, hash);
                }
            }
            98 => {
                run(owner, &[b"DEL", &key]);
                model.remove(&key);
            }
            _ => drop(owner.tick(Duration::from_millis(1))),
        }
    }
}

#[test]
fn hashes_are_what_was_written() {
    is_what_was_written::<Hashes>(32 << 20, 1 << 20, 5, 20_000, 2_000);
}

#[test]
fn kills_leave_whole_hashes_and_a_log_that_tells_the_same() {
    survives_kills::<Hashes>(25, 7919, 100);
}
