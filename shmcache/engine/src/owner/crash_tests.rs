//! Crashes at every fail point, thousands of times: what was acknowledged is there afterwards, what was not is whole or absent, the accounts
//! add up, and the log tells the same story as the data.

use super::testing::{run, Random, Regions};
use super::{Owner, Policy};
use crate::failpoint::{arm, FailPoint, FAIL_POINTS, SIMULATED_CRASH};
use crate::layout::PAGE_BYTES;
use crate::log::tailer::read_groups;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Mutex, MutexGuard};

type Model = BTreeMap<Vec<u8>, (Vec<u8>, bool)>;

/// Fail points are one per process: tests that arm them take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Wait for the fail points; simulated crashes are not worth a backtrace.
pub(super) fn take_turn() -> MutexGuard<'static, ()> {
    let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<&str>() != Some(&SIMULATED_CRASH) {
            eprintln!("{info}");
        }
    }));
    turn
}

const FAR: &[u8] = b"4102444800"; // 2100-01-01

/// One operation on the model and the commands that make it.
pub(super) enum Operation {
    Set(Vec<u8>, Vec<u8>),
    SetWithDeadline(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Deadline(Vec<u8>),
    Persist(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    SetMany(Vec<(Vec<u8>, Vec<u8>)>),
    Transaction(Vec<Operation>),
    Flush,
}

pub(super) fn random_operation(random: &mut Random, keys: u64, nested: bool) -> Operation {
    let key = |random: &mut Random| format!("key:{}", random.below(keys)).into_bytes();
    let value = |random: &mut Random| {
        let length = match random.below(40) {
            0 => 20_000 + random.below(50_000),
            1..=4 => random.below(3000),
            _ => random.below(100),
        };
        let byte = random.number() as u8;
        vec![byte; length as usize]
    };
    match random.below(if nested { 70 } else { 100 }) {
        0..=39 => Operation::Set(key(random), value(random)),
        40..=44 => Operation::SetWithDeadline(key(random), value(random)),
        45..=56 => Operation::Delete(key(random)),
        57..=61 => Operation::Deadline(key(random)),
        62..=63 => Operation::Persist(key(random)),
        64..=69 => Operation::Rename(key(random), key(random)),
        70..=84 => Operation::SetMany((0..1 + random.below(12)).map(|_| (key(random), value(random))).collect()),
        85..=98 => Operation::Transaction(
            (0..1 + random.below(8))
                .map(|_| random_operation(random, keys, true))
                .collect(),
        ),
        _ if random.below(10) == 0 => Operation::Flush,
        _ => Operation::Delete(key(random)),
    }
}

impl Operation {
    fn on_model(&self, model: &mut Model) {
        match self {
            Operation::Set(key, value) => drop(model.insert(key.clone(), (value.clone(), false))),
            Operation::SetWithDeadline(key, value) => drop(model.insert(key.clone(), (value.clone(), true))),
            Operation::Delete(key) => drop(model.remove(key)),
            Operation::Deadline(key) => {
                if let Some(entry) = model.get_mut(key) {
                    entry.1 = true;
                }
            }
            Operation::Persist(key) => {
                if let Some(entry) = model.get_mut(key) {
                    entry.1 = false;
                }
            }
            Operation::Rename(from, to) => {
                if let Some(entry) = model.remove(from) {
                    model.insert(to.clone(), entry);
                }
            }
            Operation::SetMany(pairs) => pairs
                .iter()
                .for_each(|(key, value)| drop(model.insert(key.clone(), (value.clone(), false)))),
            Operation::Transaction(operations) => operations.iter().for_each(|operation| operation.on_model(model)),
            Operation::Flush => model.clear(),
        }
    }

    pub(super) fn on_owner(&self, owner: &mut Owner) {
        let expect_ok = |reply: Vec<u8>| assert_ne!(reply[0], 0xc7, "{}", String::from_utf8_lossy(&reply));
        match self {
            Operation::Set(key, value) => expect_ok(run(owner, &[b"SET", key, value])),
            Operation::SetWithDeadline(key, value) => expect_ok(run(owner, &[b"SET", key, value, b"EXAT", FAR])),
            Operation::Delete(key) => expect_ok(run(owner, &[b"DEL", key])),
            Operation::Deadline(key) => expect_ok(run(owner, &[b"EXPIREAT", key, FAR])),
            Operation::Persist(key) => expect_ok(run(owner, &[b"PERSIST", key])),
            Operation::Rename(from, to) => drop(run(owner, &[b"RENAME", from, to])),
            Operation::SetMany(pairs) => {
                let mut args: Vec<&[u8]> = vec![b"MSET"];
                args.extend(pairs.iter().flat_map(|(key, value)| [key.as_slice(), value.as_slice()]));
                expect_ok(run(owner, &args));
            }
            Operation::Transaction(operations) => {
                owner.open_group();
                operations.iter().for_each(|operation| operation.on_owner(owner));
                owner.commit_group().expect("a small group");
            }
            Operation::Flush => expect_ok(run(owner, &[b"FLUSHALL"])),
        }
    }
}

/// What the owner has, as the model would have it.
fn contents(owner: &mut Owner) -> Model {
    let mut model = Model::new();
    for bucket in 0..owner.index_state().buckets() {
        owner.bucket_entries(bucket, |entry| {
            let replaced = model.insert(
                owner.key_at(entry.offset).to_vec(),
                (owner.value(&entry).to_vec(), owner.deadline(&entry) != 0),
            );
            assert!(replaced.is_none(), "a key is in the index twice");
        });
    }
    model
}

/// Replay the log of `from` behind `position` into a copy; the copy must be the same afterwards, also when done twice.
fn check_log(owner: &mut Owner, copy: &mut Owner, position: &mut u64) {
    let mut bytes = Vec::new();
    *position = read_groups(owner.log.map(), *position, usize::MAX, &mut bytes).expect("the ring is large enough for a round");
    for _ in 0..2 {
        copy.apply(&bytes).expect("records that were just checked");
        assert_eq!(owner.digest(), copy.digest(), "the log tells another story than the data");
    }
}

fn crash_rounds(rounds: u64, seed: u64) -> BTreeMap<&'static str, u64> {
    let _turn = take_turn();
    let mut random = Random(seed);
    let mut fired: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut round = 0;
    while round < rounds {
        // A fresh region now and then, so that its growth is crashed into as well. No value is too large for its log's ring
        // to be replayed; `large_values_survive_a_crash` has those.
        let regions = Regions::new();
        let copies = Regions::new();
        let mut owner = regions.create(64 << 20, 64 << 20, Policy::NoEviction);
        let mut copy = copies.create(64 << 20, 64 << 20, Policy::NoEviction);
        let mut position = 0;
        let mut model = Model::new();
        let keys = 1 + random.below(6000);
        // Enough to grow index and heap from the start in half of the regions.
        for number in 0..random.below(2) * keys * 3 / 4 {
            let operation = Operation::Set(format!("key:{number}").into_bytes(), vec![1; random.below(200) as usize]);
            operation.on_owner(&mut owner);
            operation.on_model(&mut model);
        }
        check_log(&mut owner, &mut copy, &mut position);
        for _ in 0..40 {
            round += 1;
            let (name, point) = FAIL_POINTS[random.below(FAIL_POINTS.len() as u64) as usize];
            let steps = 1 + random.below(150);
            let seldom = matches!(
                point,
                FailPoint::HeapGrown
                    | FailPoint::DeadlineStored
                    | FailPoint::NodeStored
                    | FailPoint::StampStored
                    | FailPoint::SplitFilled
                    | FailPoint::SplitPublished
            );
            arm(
                Some(point),
                if seldom { 0 } else { random.below(60) >> random.below(6) } as u32,
            );
            let mut in_flight = None;
            for _ in 0..steps {
                let operation = if point == FailPoint::FlushBuckets || point == FailPoint::FlushEpoch {
                    if random.below(20) == 0 {
                        Operation::Flush
                    } else {
                        random_operation(&mut random, keys, false)
                    }
                } else {
                    random_operation(&mut random, keys, false)
                };
                if catch_unwind(AssertUnwindSafe(|| operation.on_owner(&mut owner))).is_err() {
                    in_flight = Some(operation);
                    break;
                }
                operation.on_model(&mut model);
            }
            arm(None, 0);
            if in_flight.is_some() {
                *fired.entry(name).or_default() += 1;
            }
            drop(owner);
            owner = regions.attach().expect("a region can always be attached");
            let found = contents(&mut owner);
            let mut with = model.clone();
            if let Some(operation) = &in_flight {
                operation.on_model(&mut with);
            }
            let equal = found == model || found == with;
            assert!(
                equal,
                "after a crash at {name} (seed {seed}, round {round}): acknowledged writes are missing or half of one is there"
            );
            model = found;
            // Work goes on while the index is still being walked.
            for _ in 0..random.below(3) * 40 {
                let operation = random_operation(&mut random, keys, false);
                operation.on_owner(&mut owner);
                operation.on_model(&mut model);
                owner.walk_slice(random.below(4) * random.below(20)).expect("a sound region");
            }
            owner
                .verify()
                .unwrap_or_else(|what| panic!("after a crash at {name} (seed {seed}, round {round}): {what}"));
            assert!(
                contents(&mut owner) == model,
                "after the rebuild (seed {seed}, round {round})"
            );
            check_log(&mut owner, &mut copy, &mut position);
        }
    }
    fired
}

#[test]
fn nothing_acknowledged_is_lost_at_any_fail_point() {
    let rounds = std::env::var("SHMCACHE_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3000);
    let seed = std::env::var("SHMCACHE_CRASH_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0x9e37_79b9_7f4a_7c15);
    let fired = crash_rounds(rounds, seed);
    let crashes: u64 = fired.values().sum();
    println!("{crashes} crashes in {rounds} rounds: {fired:?}");
    // These need a small ring, full memory, several nodes, or luck: the tests below and in crash_tests_nodes.rs reach them for certain.
    let elsewhere = BTreeSet::from([
        "LogTailMoved",
        "EntryMoved",
        "HeapGrown",
        "IndexGrown",
        "ChainTrimmed",
        "DeadlineStored",
        "NodeStored",
        "StampStored",
        "PreparedWritten",
        "GroupPrepared",
        "DecisionNoted",
        "PreparedPublished",
        "TombstoneWritten",
        "TombstoneLinked",
    ]);
    for (name, _) in FAIL_POINTS.iter().filter(|(name, _)| !elsewhere.contains(name)) {
        assert!(fired.contains_key(name), "{name} was never reached");
    }
}

/// Run `work` until the armed point fires, attach anew, and hand the repaired owner to `check`.
fn crash_once(regions: &Regions, mut owner: Owner, point: FailPoint, after: u32, work: impl FnOnce(&mut Owner)) -> (Owner, bool) {
    arm(Some(point), after);
    let crashed = catch_unwind(AssertUnwindSafe(|| work(&mut owner))).is_err();
    arm(None, 0);
    drop(owner);
    let mut owner = regions.attach().expect("a region can always be attached");
    owner
        .verify()
        .unwrap_or_else(|what| panic!("after a crash at {point:?}: {what}"));
    (owner, crashed)
}

#[test]
fn seldom_points_are_reached_for_certain() {
    let _turn = take_turn();
    let points = [
        FailPoint::HeapGrown,
        FailPoint::IndexGrown,
        FailPoint::ChainTrimmed,
        FailPoint::DeadlineStored,
        FailPoint::NodeStored,
        FailPoint::StampStored,
    ];
    for point in points {
        for after in 0..if point == FailPoint::IndexGrown { 1 } else { 3 } {
            let regions = Regions::new();
            let owner = regions.create(64 << 20, 1 << 20, Policy::NoEviction);
            let keys: Vec<Vec<u8>> = (0..40_000).map(|number| format!("key:{number}").into_bytes()).collect();
            let mut done = 0;
            let (mut owner, crashed) = crash_once(&regions, owner, point, after, |owner| {
                for key in &keys {
                    run(owner, &[b"SET", key, &[1; 150], b"EXAT", FAR]);
                    done += 1;
                }
                for key in &keys {
                    run(owner, &[b"EXPIREAT", key, b"4102444801"]);
                }
                for key in &keys {
                    run(owner, &[b"DEL", key]);
                }
            });
            assert!(crashed, "{point:?}");
            let missing = keys[..done].iter().filter(|key| owner.lookup(key).is_none()).count();
            assert!(
                missing == 0 || point == FailPoint::ChainTrimmed,
                "{missing} keys are missing after a crash at {point:?}"
            );
        }
    }
}

#[test]
fn large_values_survive_a_crash() {
    let _turn = take_turn();
    for (_, point) in FAIL_POINTS {
        let regions = Regions::new();
        let mut owner = regions.create(64 << 20, 64 << 10, Policy::NoEviction);
        let value = vec![7u8; 1 << 20];
        run(&mut owner, &[b"SET", b"old", &value]);
        let other = vec![8u8; 1 << 20];
        let (mut owner, crashed) = crash_once(&regions, owner, *point, 0, |owner| {
            drop(run(owner, &[b"SET", b"old", &other]))
        });
        let entry = owner.lookup(b"old").expect("a key that was there before");
        let now = owner.value(&entry).to_vec();
        assert!(now == other || crashed && now == value, "after a crash at {point:?}");
    }
}

#[test]
fn a_full_shard_survives_crashes_while_it_evicts_and_compacts() {
    let _turn = take_turn();
    let mut random = Random(77);
    let mut reached = BTreeSet::new();
    for (name, point) in FAIL_POINTS.iter().cycle().take(FAIL_POINTS.len() * 8) {
        let regions = Regions::new();
        // A ring that wraps many times, and memory that is full of entries of changing sizes.
        let mut owner = regions.create(1 << 20, 64 << 10, Policy::AllKeysLru);
        owner.heap.page_limit = (2 << 20) / PAGE_BYTES;
        // Compaction is rare: some of its passages must be among the first.
        let after = random.below(if *name == "EntryMoved" { 20 } else { 300 }) as u32;
        let mut work = |owner: &mut Owner| {
            owner.heap.page_limit = (2 << 20) / PAGE_BYTES;
            for step in 0..6000u64 {
                let key = format!("key:{}", random.below(20_000));
                let value = vec![step as u8; (step / 8 % 900) as usize];
                run(owner, &[b"SET", key.as_bytes(), &value]);
                if step % 3000 == 2999 && *name == "FlushBuckets" {
                    run(owner, &[b"FLUSHALL"]);
                }
            }
        };
        let (mut owner, crashed) = crash_once(&regions, owner, *point, after, &mut work);
        if crashed {
            reached.insert(*name);
        }
        // Once from a rebuilt heap, once while it is being rebuilt.
        work(&mut owner);
        owner = regions.attach().expect("a region can always be attached");
        work(&mut owner);
        owner.verify().expect("accounts add up after more work");
        assert!(owner.used_bytes() <= owner.memory_bytes());
    }
    for name in ["LogTailMoved", "EntryMoved", "SplitMoved"] {
        assert!(reached.contains(name), "{name} was never reached, only {reached:?}");
    }
}
