//! Tests of large collections of any kind: random commands beside a model; and kills at fail points, each followed by recovery, comparison with the
//! model, and a replay of the log. A kind tells its commands and what a key of it holds.

use super::crash_tests::take_turn;
use super::testing::{run, Random, Regions};
use super::{Entry, Owner, Policy};
use crate::failpoint::{arm, FAIL_POINTS, SIMULATED_CRASH};
use crate::log::tailer::read_groups;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{catch_unwind, AssertUnwindSafe};

pub type Model<S> = BTreeMap<Vec<u8>, <S as Story>::Content>;

pub trait Story: Sized {
    type Content: Clone + PartialEq + Debug;
    /// Keys are this and a number below KEYS.
    const PREFIX: &'static str;
    const KEYS: u64;

    /// One command, and what it does to the model.
    fn step(random: &mut Random, owner: &mut Owner, model: &mut Model<Self>);
    /// What a key holds.
    fn content(owner: &mut Owner, key: &[u8], entry: Entry) -> Self::Content;

    fn key(number: u64) -> Vec<u8> {
        format!("{}{number}", Self::PREFIX).into_bytes()
    }

    fn contents(owner: &mut Owner) -> Model<Self> {
        let mut all = Model::<Self>::new();
        for key in (0..Self::KEYS).map(Self::key) {
            if let Some(entry) = owner.lookup(&key) {
                let content = Self::content(owner, &key, entry);
                all.insert(key, content);
            }
        }
        all
    }
}

/// The owner has what the commands say, all along; and what is deleted in the end is freed in slices, all of it.
pub fn is_what_was_written<S: Story>(memory_bytes: u64, log_bytes: u64, seed: u64, rounds: u64, look_every: u64) {
    let _turn = take_turn();
    let regions = Regions::new();
    let mut owner = regions.create(memory_bytes, log_bytes, Policy::NoEviction);
    let (mut random, mut model) = (Random(seed), Model::<S>::new());
    for round in 0..rounds {
        S::step(&mut random, &mut owner, &mut model);
        if round % look_every == 0 {
            assert_eq!(S::contents(&mut owner), model, "round {round}");
            owner.verify().unwrap();
        }
    }
    for number in 0..S::KEYS {
        run(&mut owner, &[b"DEL", &S::key(number)]);
    }
    while owner.free_dying() {}
    owner.verify().unwrap();
    assert_eq!((owner.keys, owner.parts), (0, 0));
}

/// Kills leave whole commands, and a log that tells the same. At least so many kills must have come.
pub fn survives_kills<S: Story>(seeds: u64, factor: u64, least_crashes: u64) {
    let _turn = take_turn();
    let mut crashes = 0;
    for seed in 1..=seeds {
        let regions = Regions::new();
        let mut random = Random(seed * factor);
        let mut owner = regions.create(16 << 20, 4 << 20, Policy::NoEviction);
        let mut model = Model::<S>::new();
        for _ in 0..25 {
            let (name, point) = FAIL_POINTS[random.below(FAIL_POINTS.len() as u64) as usize];
            arm(Some(point), random.below(60) as u32);
            let mut tried = random.number();
            let died = catch_unwind(AssertUnwindSafe(|| {
                for _ in 0..40 {
                    // The model is one step behind until the step is acknowledged.
                    let mut next = model.clone();
                    let mut again = Random(tried);
                    S::step(&mut again, &mut owner, &mut next);
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
            let found = S::contents(&mut owner);
            if found != model {
                // The step that was killed was done after all.
                let mut after = model.clone();
                let mut scratch = Regions::new().create(16 << 20, 4 << 20, Policy::NoEviction);
                S::step(&mut Random(tried), &mut scratch, &mut after);
                assert!(died.is_err() && found == after, "seed {seed}, after {name}");
                model = after;
            }
        }
        replays_the_same::<S>(&mut owner, &model);
    }
    assert!(crashes > least_crashes, "{crashes}");
}

/// A replica that reads the log from its start has the same, if the ring still has it all.
fn replays_the_same<S: Story>(owner: &mut Owner, model: &Model<S>) {
    let mut records = Vec::new();
    let mut position = 0;
    while position < owner.log_position() {
        match read_groups(owner.log.map(), position, usize::MAX, &mut records) {
            Ok(next) => position = next,
            Err(_) => return, // overrun: the ring has turned over
        }
    }
    let mut replica = Regions::new().create(16 << 20, 4 << 20, Policy::NoEviction);
    replica.apply(&records).unwrap();
    assert_eq!(&S::contents(&mut replica), model);
    for side in [&mut replica, owner] {
        side.condemn_rootless();
        while side.free_dying() {}
    }
    replica.verify().unwrap();
    assert_eq!(replica.digest(), owner.digest());
}
