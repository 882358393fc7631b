//! Sorted sets through groups that fail, kills, replay and deletion in slices.

use super::crash_tests::take_turn;
use super::large::score_of;
use super::testing::{run, Random, Regions};
use super::{Owner, Policy};
use crate::failpoint::{arm, FAIL_POINTS, SIMULATED_CRASH};
use crate::layout::Kind;
use crate::log::tailer::read_groups;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Duration;

/// Key -> member -> score; the scores are whole.
type Model = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, i64>>;
const KEYS: u64 = 3;

fn key(number: u64) -> Vec<u8> {
    format!("z{number}").into_bytes()
}

fn in_order(zset: &BTreeMap<Vec<u8>, i64>) -> Vec<(i64, Vec<u8>)> {
    let mut all: Vec<_> = zset.iter().map(|(member, score)| (*score, member.clone())).collect();
    all.sort();
    all
}

/// What the owner has, which must be in order.
fn contents(owner: &mut Owner) -> Model {
    let mut all = Model::new();
    for key in (0..KEYS).map(key) {
        if let Some(entry) = owner.lookup(&key) {
            let elements = owner.elements(&key, Kind::Zset, entry).into_iter();
            let listed: Vec<(i64, Vec<u8>)> = elements
                .map(|element| (score_of(&element.value) as i64, element.name))
                .collect();
            let zset = listed.iter().map(|(score, member)| (member.clone(), *score)).collect();
            assert_eq!(in_order(&zset), listed);
            all.insert(key, zset);
        }
    }
    all
}

/// A command and what it does to the model.
fn step(random: &mut Random, owner: &mut Owner, model: &mut Model) {
    let (name, to) = (key(random.below(KEYS)), key(random.below(KEYS)));
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

#[test]
fn they_are_what_was_written() {
    let _turn = take_turn();
    let regions = Regions::new();
    let mut owner = regions.create(32 << 20, 1 << 20, Policy::NoEviction);
    let (mut random, mut model) = (Random(5), Model::new());
    for round in 0..20_000 {
        step(&mut random, &mut owner, &mut model);
        if round % 1_000 == 0 {
            assert_eq!(contents(&mut owner), model);
            owner.verify().unwrap();
        }
    }
    for number in 0..KEYS {
        run(&mut owner, &[b"DEL", &key(number)]);
    }
    while owner.free_dying() {}
    owner.verify().unwrap();
    assert_eq!((owner.keys, owner.parts), (0, 0));
}

#[test]
fn kills_leave_whole_ones_and_a_log_that_tells_the_same() {
    let _turn = take_turn();
    let mut crashes = 0;
    for seed in 1..=20 {
        let regions = Regions::new();
        let mut random = Random(seed * 7919);
        let mut owner = regions.create(16 << 20, 4 << 20, Policy::NoEviction);
        let mut model = Model::new();
        for _ in 0..25 {
            let (name, point) = FAIL_POINTS[random.below(FAIL_POINTS.len() as u64) as usize];
            arm(Some(point), random.below(60) as u32);
            let mut tried = random.number();
            let died = catch_unwind(AssertUnwindSafe(|| {
                for _ in 0..40 {
                    // The model is one step behind until the step is acknowledged.
                    let mut next = model.clone();
                    let mut again = Random(tried);
                    step(&mut again, &mut owner, &mut next);
                    tried = again.number();
                    model = next;
                }
            }));
            arm(None, 0);
            if let Err(panic) = &died {
                assert_eq!(panic.downcast_ref::<&str>(), Some(&SIMULATED_CRASH), "at {name}");
                crashes += 1;
                drop(owner);
                owner = regions.attach().unwrap();
            }
            owner.verify().unwrap_or_else(|what| panic!("after {name}: {what}"));
            let found = contents(&mut owner);
            if found != model {
                // The step that was killed was done.
                let mut after = model.clone();
                let mut scratch_owner = Regions::new().create(16 << 20, 4 << 20, Policy::NoEviction);
                step(&mut Random(tried), &mut scratch_owner, &mut after);
                assert!(died.is_err() && found == after, "seed {seed}, after {name}");
                model = after;
            }
        }
        // A replica that reads the log from its start has the same.
        let log = owner.log.map();
        let mut records = Vec::new();
        let mut position = 0;
        while position < owner.log_position() {
            match read_groups(log, position, usize::MAX, &mut records) {
                Ok(next) => position = next,
                Err(_) => break, // overrun: the ring has turned over
            }
        }
        if position == owner.log_position() {
            let mut replica = Regions::new().create(16 << 20, 4 << 20, Policy::NoEviction);
            replica.apply(&records).unwrap();
            assert_eq!(contents(&mut replica), model);
            for side in [&mut replica, &mut owner] {
                side.condemn_rootless();
                while side.free_dying() {}
            }
            replica.verify().unwrap();
            assert_eq!(replica.digest(), owner.digest());
        }
    }
    assert!(crashes > 40, "{crashes}");
}
