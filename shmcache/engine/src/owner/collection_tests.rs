//! Large collections through everything that changes entries: commands, groups that fail, replay, compaction, kills, deletion in slices.

use super::crash_tests::take_turn;
use super::testing::{run, Random, Regions};
use super::{Owner, Policy};
use crate::failpoint::{arm, FAIL_POINTS, SIMULATED_CRASH};
use crate::log::tailer::read_groups;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Duration;

type Model = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The hashes as the commands tell them.
fn contents(owner: &mut Owner, keys: u64) -> Model {
    let mut all = Model::new();
    for key in (0..keys).map(|number| format!("h{number}").into_bytes()) {
        if let Some(entry) = owner.lookup(&key) {
            let elements = owner.elements(&key, crate::layout::Kind::Hash, entry);
            all.insert(key, elements.into_iter().map(|element| (element.name, element.value)).collect());
        }
    }
    all
}

fn step(random: &mut Random, owner: &mut Owner, model: &mut Model) {
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

#[test]
fn hashes_are_what_was_written() {
    let _turn = take_turn();
    let regions = Regions::new();
    let mut owner = regions.create(32 << 20, 1 << 20, Policy::NoEviction);
    let (mut random, mut model) = (Random(5), Model::new());
    for round in 0..20_000 {
        step(&mut random, &mut owner, &mut model);
        if round % 2_000 == 0 {
            assert_eq!(contents(&mut owner, 4), model);
            owner.verify().unwrap();
        }
    }
    // What was deleted is freed in slices, all of it.
    for key in 0..4 {
        run(&mut owner, &[b"DEL", format!("h{key}").as_bytes()]);
    }
    while owner.free_dying() {}
    owner.verify().unwrap();
    assert_eq!((owner.keys, owner.parts), (0, 0));
}

#[test]
fn kills_leave_whole_hashes_and_a_log_that_tells_the_same() {
    let _turn = take_turn();
    let mut crashes = 0;
    for seed in 1..=25 {
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
            let found = contents(&mut owner, 4);
            if found != model {
                // The step that was killed was done, in whole or, if the log had no room for it as a group, in part: then its own fields differ.
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
            assert_eq!(contents(&mut replica, 4), model);
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
