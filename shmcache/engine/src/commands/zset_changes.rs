//! What changes a sorted set. Small ones are written anew, large ones an element at a time.

use super::hashes::remove_parts;
use super::zset_view::{look, Scored};
use super::Fail;
use crate::compact::Builder;
use crate::layout::Kind;
use crate::owner::collections::score_sort;
use crate::owner::large::{score_of, Element, Large, Opened};
use crate::owner::Owner;
use std::collections::HashMap;
use std::ops::Range;

/// More pairs than this are found by a table instead of one look after the other.
const MANY_PAIRS: usize = 16;

/// When a score is set.
#[derive(Clone, Copy, Default)]
pub struct Rules {
    pub only_new: bool,
    pub only_existing: bool,
    pub only_greater: bool,
    pub only_less: bool,
    /// The number is added to the score.
    pub add: bool,
}

impl Rules {
    /// The new score; None: nothing is done.
    fn decide(&self, old: Option<f64>, given: f64) -> Result<Option<f64>, Fail> {
        let Some(old) = old else {
            return Ok((!self.only_existing).then_some(given));
        };
        if self.only_new {
            return Ok(None);
        }
        let new = if self.add { old + given } else { given };
        if new.is_nan() {
            return Err(Fail::err("resulting score is not a number (NaN)"));
        }
        let allowed = (!self.only_greater || new > old) && (!self.only_less || new < old);
        Ok(allowed.then_some(new))
    }
}

/// What `set_scores` did.
#[derive(Default)]
pub struct Outcome {
    pub added: usize,
    pub updated: usize,
    /// Of the last pair; None if the rules left it as it was.
    pub score: Option<f64>,
}

impl Outcome {
    /// The score to write, if it is another than before.
    fn count(&mut self, old: Option<f64>, new: Option<f64>) -> Option<f64> {
        self.score = new;
        let new = new.filter(|&new| old != Some(new))?;
        match old {
            Some(_) => self.updated += 1,
            None => self.added += 1,
        }
        Some(new)
    }
}

/// In the order of a sorted set.
pub fn sort(all: &mut [Scored]) {
    all.sort_by(|one, other| score_sort(one.0).cmp(&score_sort(other.0)).then_with(|| one.1.cmp(other.1)));
}

pub fn element_of((score, member): Scored) -> Element {
    Element {
        name: member.to_vec(),
        value: score.to_le_bytes().to_vec(),
        deadline: 0,
    }
}

/// Give members these scores, one after the other.
pub fn set_scores(owner: &mut Owner, key: &[u8], pairs: &[Scored], rules: Rules) -> Result<Outcome, Fail> {
    let opened = owner.open(key, Kind::Zset)?;
    let (mut all, deadline): (Vec<Scored>, u64) = match &opened {
        Opened::Large(large) => return set_parts(owner, key, large, pairs, rules),
        Opened::Compact(entry) => (owner.small(entry).scored().collect(), owner.deadline(entry)),
        Opened::Missing => (Vec::new(), 0),
    };
    let mut places: Option<HashMap<&[u8], usize>> =
        (pairs.len() > MANY_PAIRS).then(|| all.iter().enumerate().map(|(place, one)| (one.1, place)).collect());
    let mut outcome = Outcome::default();
    for &(given, member) in pairs {
        let place = match &places {
            Some(places) => places.get(member).copied(),
            None => all.iter().position(|one| one.1 == member),
        };
        let old = place.map(|place| all[place].0);
        let new = rules.decide(old, given)?;
        let Some(new) = outcome.count(old, new) else { continue };
        match place {
            Some(place) => all[place].0 = new,
            None => {
                if let Some(places) = &mut places {
                    places.insert(member, all.len());
                }
                all.push((new, member));
            }
        }
    }
    if outcome.added + outcome.updated == 0 {
        return Ok(outcome);
    }
    sort(&mut all);
    let limit = owner.compact_limits.zset;
    if all.len() <= limit.elements && pairs.iter().all(|(_, member)| member.len() <= limit.element_bytes) {
        let mut builder = Builder::with_room(all.iter().map(|(_, member)| member.len() + 10).sum());
        all.iter().for_each(|&(score, member)| builder.scored(score, member));
        let value = builder.finish();
        owner.put(key, Kind::Zset, &value, deadline)?;
    } else {
        let elements: Vec<Element> = all.into_iter().map(element_of).collect();
        owner.store(key, Kind::Zset, &elements, deadline)?;
    }
    Ok(outcome)
}

fn set_parts(owner: &mut Owner, key: &[u8], large: &Large, pairs: &[Scored], rules: Rules) -> Result<Outcome, Fail> {
    owner.several(pairs.len(), |owner| {
        let mut outcome = Outcome::default();
        for &(given, member) in pairs {
            let old = owner.part(large, member).map(|entry| score_of(owner.value(&entry)));
            let new = rules.decide(old, given)?;
            if let Some(new) = outcome.count(old, new) {
                owner.put_part(large, member, &new.to_le_bytes(), 0)?;
            }
        }
        if outcome.added + outcome.updated > 0 {
            owner.put_root(key, large)?;
        }
        Ok(outcome)
    })
}

/// Take members away; how many there were. Without any the key goes.
pub fn remove_members<N: AsRef<[u8]>>(owner: &mut Owner, key: &[u8], members: &[N]) -> Result<usize, Fail> {
    match owner.open(key, Kind::Zset)? {
        Opened::Missing => Ok(0),
        Opened::Large(large) => {
            let all = owner.length(&large);
            // All at once: the parts are freed in slices.
            if members.len() == all
                && members.iter().all(|member| owner.part(&large, member.as_ref()).is_some())
                && are_different(members)
            {
                owner.remove(key);
                return Ok(all);
            }
            remove_parts(owner, key, &large, members)
        }
        Opened::Compact(entry) => {
            let old = owner.small(&entry);
            let mut builder = Builder::with_room(owner.value(&entry).len());
            for (score, member) in old.scored() {
                if !members.iter().any(|gone| gone.as_ref() == member) {
                    builder.scored(score, member);
                }
            }
            let gone = old.count - builder.count().min(old.count);
            if builder.count() == 0 {
                owner.remove(key);
            } else if gone > 0 {
                let deadline = owner.deadline(&entry);
                let value = builder.finish();
                owner.put(key, Kind::Zset, &value, deadline)?;
            }
            Ok(gone)
        }
    }
}

fn are_different<N: AsRef<[u8]>>(members: &[N]) -> bool {
    let mut seen = std::collections::HashSet::with_capacity(members.len());
    members.iter().all(|member| seen.insert(member.as_ref()))
}

/// Take those of some ranks away, which `choose` tells from the number that there are; they are given in order.
pub fn take_ranks(
    owner: &mut Owner,
    key: &[u8],
    choose: impl FnOnce(usize) -> Range<usize>,
) -> Result<Vec<(f64, Vec<u8>)>, Fail> {
    let taken = look(owner, key, |ranked| {
        let ranks = choose(ranked.len());
        let mut taken = Vec::with_capacity(ranks.len());
        ranked.each(ranks, false, |(score, member)| taken.push((score, member.to_vec())));
        taken
    })?;
    if !taken.is_empty() {
        let members: Vec<&[u8]> = taken.iter().map(|(_, member)| member.as_slice()).collect();
        remove_members(owner, key, &members)?;
    }
    Ok(taken)
}
