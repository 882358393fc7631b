//! Ranges of sorted sets: by rank, score or member; counted, read, stored, removed.

use super::events::event;
use super::lists;
use super::number::int_arg;
use super::read::View;
use super::reply::Sink;
use super::scores::{LexBound, ScoreBound};
use super::table::Command;
use super::zset_changes::{element_of, take_ranks};
use super::zset_view::{look, write_one, Ranked};
use super::{Args, Fail};
use crate::layout::Kind;
use crate::owner::large::Element;
use crate::owner::Owner;
use std::ops::Range;

#[derive(Clone, Copy)]
enum By {
    Rank,
    Score,
    Member,
}

#[derive(Clone, Copy)]
enum Bounds<'a> {
    Ranks(i64, i64),
    Scores(ScoreBound, ScoreBound),
    Members(LexBound<'a>, LexBound<'a>),
}

impl<'a> Bounds<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Bounds<'a>, Fail> {
        Ok(match by {
            By::Rank => Bounds::Ranks(int_arg(min)?, int_arg(max)?),
            By::Score => Bounds::Scores(ScoreBound::parse(min)?, ScoreBound::parse(max)?),
            By::Member => Bounds::Members(LexBound::parse(min)?, LexBound::parse(max)?),
        })
    }

    fn ranks(&self, ranked: &Ranked) -> Range<usize> {
        match *self {
            Bounds::Ranks(first, last) => lists::ranks(first, last, ranked.len()),
            Bounds::Scores(min, max) => ranked.by_score(min, max),
            Bounds::Members(min, max) => ranked.by_member(min, max),
        }
    }
}

/// What ZRANGE and its older forms ask for.
struct Wanted<'a> {
    bounds: Bounds<'a>,
    backward: bool,
    scores: bool,
    offset: i64,
    /// Negative: all.
    count: i64,
}

impl<'a> Wanted<'a> {
    /// `args` from the first bound on. What is given is fixed; None: options may say it.
    fn parse(args: &[&'a [u8]], stores: bool, by: Option<By>, backward: Option<bool>) -> Result<Wanted<'a>, Fail> {
        let (mut chosen, mut reversed, mut scores) = (None, None, false);
        let (mut offset, mut count) = (0, -1);
        let mut rest = &args[2..];
        while let Some((word, after)) = rest.split_first() {
            rest = match (word.to_ascii_lowercase().as_slice(), after) {
                (b"withscores", _) if !stores => {
                    scores = true;
                    after
                }
                (b"limit", [first, many, after @ ..]) => {
                    (offset, count) = (int_arg(first)?, int_arg(many)?);
                    after
                }
                (b"rev", _) if backward.is_none() && reversed.is_none() => {
                    reversed = Some(true);
                    after
                }
                (b"bylex", _) if by.is_none() && chosen.is_none() => {
                    chosen = Some(By::Member);
                    after
                }
                (b"byscore", _) if by.is_none() && chosen.is_none() => {
                    chosen = Some(By::Score);
                    after
                }
                _ => return Err(Fail::syntax()),
            };
        }
        let by = by.or(chosen).unwrap_or(By::Rank);
        let backward = backward.or(reversed).unwrap_or(false);
        if count != -1 && matches!(by, By::Rank) {
            return Err(Fail::err(
                "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if scores && matches!(by, By::Member) {
            return Err(Fail::err("syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        // The one that the walk begins at comes first.
        let (min, max) = if backward && !matches!(by, By::Rank) {
            (args[1], args[0])
        } else {
            (args[0], args[1])
        };
        Ok(Wanted {
            bounds: Bounds::parse(by, min, max)?,
            backward,
            scores,
            offset,
            count,
        })
    }

    fn ranks(&self, ranked: &Ranked) -> Range<usize> {
        let range = self.bounds.ranks(ranked);
        if let Bounds::Ranks(..) = self.bounds {
            // Ranks count from the other end.
            return if self.backward {
                ranked.len() - range.end..ranked.len() - range.start
            } else {
                range
            };
        }
        let Ok(offset) = usize::try_from(self.offset) else {
            return 0..0;
        };
        let left = range.len().saturating_sub(offset);
        let count = usize::try_from(self.count).map_or(left, |count| count.min(left));
        if count == 0 {
            0..0
        } else if self.backward {
            range.end - offset - count..range.end - offset
        } else {
            range.start + offset..range.start + offset + count
        }
    }
}

pub fn read<V: View, S: Sink>(view: &mut V, command: Command, args: &Args, out: &mut S) -> Result<(), Fail> {
    let wanted = match command {
        Command::Zcount | Command::Zlexcount => {
            let by = if command == Command::Zcount { By::Score } else { By::Member };
            let bounds = Bounds::parse(by, args[2], args[3])?;
            let count = look(view, args[1], |ranked| bounds.ranks(ranked).len())?;
            out.int(count as i64);
            return Ok(());
        }
        Command::Zrange => Wanted::parse(&args[2..], false, None, None)?,
        Command::Zrevrange => Wanted::parse(&args[2..], false, Some(By::Rank), Some(true))?,
        Command::Zrangebyscore => Wanted::parse(&args[2..], false, Some(By::Score), Some(false))?,
        Command::Zrevrangebyscore => Wanted::parse(&args[2..], false, Some(By::Score), Some(true))?,
        Command::Zrangebylex => Wanted::parse(&args[2..], false, Some(By::Member), Some(false))?,
        Command::Zrevrangebylex => Wanted::parse(&args[2..], false, Some(By::Member), Some(true))?,
        other => unreachable!("{other:?} is flagged LOCAL and has no reader"),
    };
    look(view, args[1], |ranked| {
        let ranks = wanted.ranks(ranked);
        out.array(ranks.len() * (1 + wanted.scores as usize));
        ranked.each(ranks, wanted.backward, |one| write_one(one, wanted.scores, out));
    })
}

/// ZRANGESTORE and ZREMRANGEBY...
pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let by = match command {
        Command::Zremrangebyrank => By::Rank,
        Command::Zremrangebyscore => By::Score,
        Command::Zremrangebylex => By::Member,
        _ => return store(owner, args, out),
    };
    let bounds = Bounds::parse(by, args[2], args[3])?;
    let ranks = look(owner, args[1], |ranked| bounds.ranks(ranked))?;
    let gone = take_ranks(owner, args[1], |_| ranks)?;
    out.int(gone.len() as i64);
    Ok(())
}

fn store(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let wanted = Wanted::parse(&args[3..], true, None, None)?;
    let elements = look(owner, args[2], |ranked| {
        let ranks = wanted.ranks(ranked);
        let mut elements: Vec<Element> = Vec::with_capacity(ranks.len());
        ranked.each(ranks, false, |one| elements.push(element_of(one)));
        elements
    })?;
    if elements.is_empty() {
        owner.event = event("del");
    }
    owner.store(args[1], Kind::Zset, &elements, 0)?;
    out.int(elements.len() as i64);
    Ok(())
}
