//! Lists through kills, replay and deletion in slices.

use super::crash_tests::take_turn;
use super::testing::{run, Random, Regions};
use super::{Owner, Policy};
use crate::failpoint::{arm, FAIL_POINTS, SIMULATED_CRASH};
use crate::layout::Kind;
use crate::log::tailer::read_groups;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Duration;

type Model = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;
const KEYS: u64 = 3;

fn key(number: u64) -> Vec<u8> {
    format!("l{number}").into_bytes()
}

fn contents(owner: &mut Owner) -> Model {
    let mut all = Model::new();
    for key in (0..KEYS).map(key) {
        if let Some(entry) = owner.lookup(&key) {
            let elements = owner.elements(&key, Kind::List, entry);
            all.insert(key, elements.into_iter().map(|element| element.value).collect());
        }
    }
    all
}

/// A command and what it does to the model.
fn step(random: &mut Random, owner: &mut Owner, model: &mut Model) {
    let (name, to) = (key(random.below(KEYS)), key(random.below(KEYS)));
    let element = format!("e{}", random.below(60)).into_bytes();
    let list = model.entry(name.clone()).or_default();
    match random.below(100) {
        0..=29 => {
            let some: Vec<Vec<u8>> = (0..1 + random.below(12)).map(|number| format!("e{number}").into_bytes()).collect();
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

#[test]
fn lists_are_what_was_written() {
    let _turn = take_turn();
    let regions = Regions::new();
    let mut owner = regions.create(64 << 20, 4 << 20, Policy::NoEviction);
    let (mut random, mut model) = (Random(17), Model::new());
    for round in 0..15_000 {
        step(&mut random, &mut owner, &mut model);
        if round % 1_000 == 0 {
            assert_eq!(contents(&mut owner), model, "round {round}");
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
fn kills_leave_lists_in_order_and_a_log_that_tells_the_same() {
    let _turn = take_turn();
    let mut crashes = 0;
    for seed in 1..=25 {
        let regions = Regions::new();
        let mut random = Random(seed * 104_729);
        let mut owner = regions.create(16 << 20, 4 << 20, Policy::NoEviction);
        let mut model = Model::new();
        for _ in 0..25 {
            let (name, point) = FAIL_POINTS[random.below(FAIL_POINTS.len() as u64) as usize];
            arm(Some(point), random.below(60) as u32);
            let mut tried = random.number();
            let died = catch_unwind(AssertUnwindSafe(|| {
                for _ in 0..40 {
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
                // The step that was killed was done after all.
                let mut after = model.clone();
                let mut scratch = Regions::new().create(16 << 20, 4 << 20, Policy::NoEviction);
                step(&mut Random(tried), &mut scratch, &mut after);
                assert!(died.is_err() && found == after, "seed {seed}, after {name}");
                model = after;
            }
        }
        let mut records = Vec::new();
        let mut position = 0;
        while position < owner.log_position() {
            match read_groups(owner.log.map(), position, usize::MAX, &mut records) {
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
    assert!(crashes > 100, "{crashes}");
}
