//! Crashes of one of two writers, while it writes and while it applies what the other wrote: who wrote what, the deletions that are
//! remembered and the flush marks come through, and afterwards both agree.

use super::crash_tests::{random_operation, take_turn, Operation};
use super::testing::{Random, Regions};
use super::{Owner, Policy};
use crate::failpoint::{arm, FAIL_POINTS};
use crate::layout::*;
use crate::log::tailer::read_groups;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};

const RING: u64 = 16 << 20;
const LIFE_MS: u64 = 3_600_000;

/// Kind, origin, deadline and value.
type Content = (u8, Origin, u64, Vec<u8>);

/// Everything that the index has, tombstones included.
fn everything(owner: &Owner) -> BTreeMap<Vec<u8>, Content> {
    let mut all = BTreeMap::new();
    for bucket in 0..owner.index.state.buckets() {
        owner.index.for_each(&owner.map, bucket, |_, word| {
            let offset = word.offset();
            let meta = Meta(owner.map.load(offset.0 + WORD));
            let origin = Origin {
                stamp: owner.map.load(offset.0),
                node: meta.node(),
            };
            let deadline = if meta.has_deadline() {
                owner.map.load(offset.0 + 2 * WORD)
            } else {
                0
            };
            let value = owner.map.slice(offset.0 + meta.value_at(), meta.value_bytes()).to_vec();
            let content = (meta.kind_code(), origin, deadline, value);
            let twice = all.insert(owner.key_at(offset).to_vec(), content);
            assert!(twice.is_none(), "a key is in the index twice");
        });
    }
    all
}

fn news(owner: &Owner, position: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    *position = read_groups(owner.log.map(), *position, usize::MAX, &mut bytes).expect("the ring holds a round");
    bytes
}

fn writer(regions: &Regions, node: u64) -> Owner {
    let mut owner = regions.create(64 << 20, RING, Policy::NoEviction);
    owner.set_node(node).expect("a small number");
    owner.set_tombstone_life(LIFE_MS).expect("an hour");
    owner
}

fn work(owner: &mut Owner, random: &mut Random, steps: u64) {
    for _ in 0..steps {
        let operation = match random.below(60) {
            0 => Operation::Flush,
            _ => random_operation(random, 150, false),
        };
        operation.on_owner(owner);
    }
}

#[test]
fn two_writers_agree_whatever_one_of_them_dies_at() {
    let _turn = take_turn();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut fired: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..20 {
        let (own, others, copies) = (Regions::new(), Regions::new(), Regions::new());
        let (mut owner, mut other, mut copy) = (writer(&own, 1), writer(&others, 2), writer(&copies, 3));
        let (mut own_position, mut other_position) = (0, 0);
        for round in 0..40 {
            let (steps, seed) = (random.below(30), random.number() | 1);
            work(&mut other, &mut random, steps);
            let theirs = news(&other, &mut other_position);
            let (name, point) = FAIL_POINTS[random.below(FAIL_POINTS.len() as u64) as usize];
            arm(Some(point), random.below(30) as u32 >> random.below(5));
            let crashed = catch_unwind(AssertUnwindSafe(|| {
                work(&mut owner, &mut Random(seed), steps / 2);
                owner.apply(&theirs).expect("sound records");
                work(&mut owner, &mut Random(seed >> 7 | 1), steps / 2);
            }));
            arm(None, 0);
            if crashed.is_err() {
                *fired.entry(name).or_default() += 1;
            }
            drop(owner);
            owner = own.attach().expect("a region can always be attached");
            owner
                .verify()
                .unwrap_or_else(|what| panic!("round {round}, after a crash at {name}: {what}"));
            let ours = news(&owner, &mut own_position);
            copy.apply(&ours).expect("sound records");
            copy.verify().expect("a sound copy");
            assert_eq!(
                everything(&owner),
                everything(&copy),
                "round {round}, {name}: the log tells another story than the data"
            );
            owner.apply(&theirs).expect("sound records");
            other.apply(&ours).expect("sound records");
            let (ours, theirs) = (news(&owner, &mut own_position), news(&other, &mut other_position));
            copy.apply(&ours).expect("sound records");
            owner.apply(&theirs).expect("sound records");
            assert_eq!(
                everything(&owner),
                everything(&other),
                "round {round}, after a crash at {name}"
            );
            assert_eq!(owner.digest(), copy.digest(), "round {round}");
            assert_eq!(owner.flush_marks.count(), other.flush_marks.count());
        }
    }
    println!("crashes: {fired:?}");
    for name in [
        "TombstoneWritten",
        "TombstoneLinked",
        "GroupLogged",
        "GroupHalfApplied",
        "LogPublished",
        "EntryFreed",
        "FlushBuckets",
    ] {
        assert!(fired.contains_key(name), "{name} was never reached, only {fired:?}");
    }
}

/// A deadline that changes in place takes the node with it, at whatever store the owner dies.
#[test]
fn a_deadline_keeps_its_node_through_a_crash() {
    let _turn = take_turn();
    for (name, point) in FAIL_POINTS {
        let (own, others) = (Regions::new(), Regions::new());
        let (mut owner, mut other) = (writer(&own, 0), writer(&others, 0));
        Operation::SetWithDeadline(b"k".to_vec(), b"v".to_vec()).on_owner(&mut owner);
        let mut position = 0;
        other.apply(&news(&owner, &mut position)).expect("sound records");
        // Another node's record of a deadline alone: as a single writer that is node 5 from now on would write it.
        let mut records = Vec::new();
        let stamp = owner.last_stamp() + 1;
        crate::log::Record {
            seq: 1,
            stamp,
            epoch: 0,
            node: 5,
            effect: crate::log::Effect::Deadline,
            kind: crate::layout::Kind::String,
            event: 0,
            more: false,
            deadline: 4_102_444_800_999,
            key: b"k",
            value: &[],
        }
        .encode(&mut records);
        arm(Some(*point), 0);
        let _ = catch_unwind(AssertUnwindSafe(|| owner.apply(&records)));
        arm(None, 0);
        drop(owner);
        owner = own.attach().expect("a region can always be attached");
        owner.apply(&records).expect("a sound record");
        other.apply(&records).expect("a sound record");
        let content = everything(&owner);
        assert_eq!(content, everything(&other), "after a crash at {name}");
        assert_eq!(content[&b"k"[..]].1, Origin { stamp, node: 5 });
        assert_eq!(content[&b"k"[..]].2, 4_102_444_800_999);
        owner.verify().expect("a sound region");
    }
}
