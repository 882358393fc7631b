//! A sorted set in its order, compact or large, as the commands that read it see it.

use super::parts::{if_small, large_of};
use super::read::View;
use super::reply::Sink;
use super::scores::{format_score, LexBound, ScoreBound};
use super::Fail;
use crate::layout::Kind;
use crate::owner::collections::sort_score;
use crate::owner::large::score_of;
use crate::owner::order::{Item, Order};
use crate::owner::Owner;
use std::ops::Range;

pub type Scored<'a> = (f64, &'a [u8]);

pub enum Ranked<'a> {
    Small(Vec<Scored<'a>>),
    Large(&'a Owner, &'a Order),
}

/// Look at a sorted set; a missing one is empty. A reader of a large one is told to ask the owner. Fails with WRONGTYPE.
pub fn look<V: View, T>(view: &mut V, key: &[u8], visit: impl FnOnce(&Ranked) -> T) -> Result<T, Fail> {
    let mut visit = Some(visit);
    let mut visit = |ranked: &Ranked| (visit.take().expect("one of two ways is gone"))(ranked);
    let small = if_small(view, key, Kind::Zset, |compact| {
        visit(&Ranked::Small(compact.map_or_else(Vec::new, |zset| zset.scored().collect())))
    })?;
    if let Some(answer) = small {
        return Ok(answer);
    }
    let (owner, large) = large_of(view, key, Kind::Zset)?;
    owner.order(&large);
    Ok(visit(&Ranked::Large(owner, owner.known_order(&large))))
}

impl<'a> Ranked<'a> {
    pub fn len(&self) -> usize {
        match self {
            Ranked::Small(all) => all.len(),
            Ranked::Large(_, order) => order.len(),
        }
    }

    /// How many stand before the first whose score is not `before`.
    fn scores_before(&self, before: impl Fn(f64) -> bool) -> usize {
        match self {
            Ranked::Small(all) => all.partition_point(|&(score, _)| before(score)),
            Ranked::Large(_, order) => order.rank(order.first_not(|item| before(sort_score(item.sort)))),
        }
    }

    fn members_before(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        match self {
            Ranked::Small(all) => all.partition_point(|&(_, member)| before(member)),
            Ranked::Large(owner, order) => order.rank(order.first_not(|item| before(owner.item_name(*item)))),
        }
    }

    /// Ranks of a range of scores.
    pub fn by_score(&self, min: ScoreBound, max: ScoreBound) -> Range<usize> {
        let start = self.scores_before(|score| min.is_above(score));
        start..self.scores_before(|score| max.reaches(score)).max(start)
    }

    /// Ranks of a range of members; it means something where all scores are equal.
    pub fn by_member(&self, min: LexBound, max: LexBound) -> Range<usize> {
        let start = self.members_before(|member| min.is_above(member));
        start..self.members_before(|member| max.reaches(member)).max(start)
    }

    /// Those of these ranks, which must exist, one after the other.
    pub fn each(&self, ranks: Range<usize>, backward: bool, mut visit: impl FnMut(Scored<'a>)) {
        match (self, backward) {
            (Ranked::Small(all), false) => all[ranks].iter().for_each(|&one| visit(one)),
            (Ranked::Small(all), true) => all[ranks].iter().rev().for_each(|&one| visit(one)),
            (Ranked::Large(owner, order), false) => order.range(ranks).for_each(|item| visit(scored(owner, item))),
            (Ranked::Large(owner, order), true) => {
                let items = order.backward(order.at_rank(ranks.end)).take(ranks.len());
                items.for_each(|item| visit(scored(owner, item)));
            }
        }
    }

    /// One of these by its rank, which must exist.
    pub fn at(&self, rank: usize) -> Option<Scored<'a>> {
        match self {
            Ranked::Small(all) => all.get(rank).copied(),
            Ranked::Large(owner, order) => order.get(order.at_rank(rank)).map(|item| scored(owner, item)),
        }
    }
}

/// A part as score and member.
pub fn scored(owner: &Owner, item: Item) -> Scored<'_> {
    (score_of(owner.item_value(item)), owner.item_name(item))
}

pub fn write_score(score: f64, out: &mut impl Sink) {
    out.bytes(format_score(score).as_bytes());
}

pub fn write_one((score, member): Scored, scores: bool, out: &mut impl Sink) {
    out.bytes(member);
    if scores {
        write_score(score, out);
    }
}
