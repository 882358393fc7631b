//! Lists through kills, replay and deletion in slices.

use super::stories::{is_what_was_written, survives_kills, Model, Story};
use super::testing::{run, Random};
use super::{Entry, Owner};
use crate::layout::Kind;
use std::time::Duration;

struct Lists;

impl Story for Lists {
    type Content = Vec<Vec<u8>>;
    const PREFIX: &'static str = "l";
    const KEYS: u64 = 3;

    fn content(owner: &mut Owner, key: &[u8], entry: Entry) -> Self::Content {
        let elements = owner.elements(key, Kind::List, entry);
        elements.into_iter().map(|element| element.value).collect()
    }

    fn step(random: &mut Random, owner: &mut Owner, model: &mut Model<Lists>) {
        let (name, to) = (Self::key(random.below(Self::KEYS)), Self::key(random.below(Self::KEYS)));
        let element = format!("e{}", random.below(60)).into_bytes();
        let list = model.entry(name.clone()).or_default();
        match random.below(100) {
            0..=29 => {
                let some: Vec<Vec<u8>> = (0..1 + random.below(12))
                    .map(|number| format!("e{number}").into_bytes())
                    .collect();
                let left = random.below(2) == 0;
                let mut args: Vec<&[u8]> = vec![if left { b"LPUSH" } else { b"RPUSH" }, &name];
                args.extend(some.iter().map(Vec::as_slice));
                run(owner, &args);
                if left {
                    list.splice(0..0, some.into_iter().rev());
                } else {
                    list.extend(some);
                }
            }
            30..=59 => {
                run(owner, &[b"LINSERT", &name, b"AFTER", b"e1", &element]);
                if let Some(at) = list.iter().position(|other| other == b"e1") {
                    list.insert(at + 1, element);
                }
            }
            60..=69 => {
                let count = random.below(10) as usize;
                run(owner, &[b"LPOP", &name, count.to_string().as_bytes()]);
                list.drain(..count.min(list.len()));
            }
            70..=79 => {
                let length = list.len();
                let moved = list.pop();
                run(owner, &[b"RPOPLPUSH", &name, &to]);
                if let Some(moved) = moved {
                    model.entry(to).or_default().insert(0, moved);
                }
                assert!(length < 100_000);
            }
            80..=87 => {
                run(owner, &[b"LREM", &name, b"3", &element]);
                let mut left = 3;
                list.retain(|other| {
                    let goes = left > 0 && *other == element;
                    left -= goes as usize;
                    !goes
                });
            }
            88..=93 => {
                run(owner, &[b"LSET", &name, b"-2", &element]);
                if let Some(at) = list.len().checked_sub(2) {
                    list[at] = element;
                }
            }
            94..=95 => {
                run(owner, &[b"LTRIM", &name, b"3", b"-4"]);
                list.truncate(list.len().saturating_sub(3));
                list.drain(..3.min(list.len()));
            }
            96 => {
                // A group that is given up leaves nothing, not even new numbers.
                owner.open_group();
                for _ in 0..30 {
                    run(owner, &[b"LINSERT", &name, b"AFTER", b"e1", b"never"]);
                }
                run(owner, &[b"RPOPLPUSH", &name, &to]);
                owner.abandon_group();
            }
            97 => {
                run(owner, &[b"COPY", &name, &to, b"REPLACE"]);
                let copied = list.clone();
                if !copied.is_empty() && name != to {
                    model.insert(to, copied);
                }
            }
            98 => {
                run(owner, &[b"DEL", &name]);
                list.clear();
            }
            _ => drop(owner.tick(Duration::from_millis(1))),
        }
        model.retain(|_, list| !list.is_empty());
    }
}

#[test]
fn lists_are_what_was_written() {
    is_what_was_written::<Lists>(64 << 20, 4 << 20, 17, 15_000, 1_000);
}

#[test]
fn kills_leave_lists_in_order_and_a_log_that_tells_the_same() {
    survives_kills::<Lists>(25, 104_729, 100);
}
