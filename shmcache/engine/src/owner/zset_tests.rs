//! Sorted sets through groups that fail, kills, replay and deletion in slices.

use super::large::score_of;
use super::stories::{is_what_was_written, survives_kills, Model, Story};
use super::testing::{run, Random};
use super::{Entry, Owner};
use crate::layout::Kind;
use std::collections::BTreeMap;
use std::time::Duration;

fn in_order(zset: &BTreeMap<Vec<u8>, i64>) -> Vec<(i64, Vec<u8>)> {
    let mut all: Vec<_> = zset.iter().map(|(member, score)| (*score, member.clone())).collect();
    all.sort();
    all
}

struct Zsets;

impl Story for Zsets {
    /// Member -> score; the scores are whole.
    type Content = BTreeMap<Vec<u8>, i64>;
    const PREFIX: &'static str = "z";
    const KEYS: u64 = 3;

    /// It must be in order.
    fn content(owner: &mut Owner, key: &[u8], entry: Entry) -> Self::Content {
        let elements = owner.elements(key, Kind::Zset, entry).into_iter();
        let listed: Vec<(i64, Vec<u8>)> = elements
            .map(|element| (score_of(&element.value) as i64, element.name))
            .collect();
        let zset = listed.iter().map(|(score, member)| (member.clone(), *score)).collect();
        assert_eq!(in_order(&zset), listed);
        zset
    }

    fn step(random: &mut Random, owner: &mut Owner, model: &mut Model<Zsets>) {
        let (name, to) = (Self::key(random.below(Self::KEYS)), Self::key(random.below(Self::KEYS)));
        let member = format!("m{}", random.below(300)).into_bytes();
        let score = random.below(40) as i64 - 20;
        let text = score.to_string().into_bytes();
        let zset = model.entry(name.clone()).or_default();
        match random.below(100) {
            0..=39 => {
                run(owner, &[b"ZADD", &name, &text, &member]);
                zset.insert(member, score);
            }
            40..=54 => {
                let members: Vec<Vec<u8>> = (0..15).map(|_| format!("m{}", random.below(300)).into_bytes()).collect();
                let mut args: Vec<&[u8]> = vec![b"ZADD", &name];
                args.extend(members.iter().flat_map(|member| [text.as_slice(), member]));
                run(owner, &args);
                zset.extend(members.into_iter().map(|member| (member, score)));
            }
            55..=64 => {
                run(owner, &[b"ZINCRBY", &name, &text, &member]);
                *zset.entry(member).or_default() += score;
            }
            65..=79 => {
                run(owner, &[b"ZREM", &name, &member]);
                zset.remove(&member);
            }
            80..=87 => {
                run(owner, &[b"ZPOPMIN", &name, b"3"]);
                for (_, member) in in_order(zset).into_iter().take(3) {
                    zset.remove(&member);
                }
            }
            88..=89 => {
                run(owner, &[b"ZREMRANGEBYSCORE", &name, b"-20", b"(-18"]);
                zset.retain(|_, score| !(-20..-18).contains(score));
            }
            90..=92 => {
                // A group that is given up leaves nothing.
                owner.open_group();
                run(owner, &[b"ZADD", &name, &text, &member]);
                run(owner, &[b"ZPOPMAX", &name, b"2"]);
                owner.abandon_group();
            }
            93..=95 => {
                run(owner, &[b"ZRANGESTORE", &to, &name, b"0", b"-1"]);
                let copy = zset.clone();
                model.insert(to, copy);
            }
            96 => {
                run(owner, &[b"DEL", &name]);
                zset.clear();
            }
            _ => drop(owner.tick(Duration::from_millis(1))),
        }
        model.retain(|_, zset| !zset.is_empty());
    }
}

#[test]
fn they_are_what_was_written() {
    is_what_was_written::<Zsets>(32 << 20, 1 << 20, 5, 20_000, 1_000);
}

#[test]
fn kills_leave_whole_ones_and_a_log_that_tells_the_same() {
    survives_kills::<Zsets>(20, 7919, 40);
}
