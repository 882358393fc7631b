//! Commands on sorted sets: single members and their ranks. Ranges are in `zset_ranges`, taking from the ends in `zset_pops`, unions and the like in
//! `zset_algebra`, random members and ZSCAN in `zset_picks`, places on the earth in `geo`.

use super::events::event;
use super::parts::{if_small, large_of, look_for};
use super::read::View;
use super::reply::Sink;
use super::scores::score_arg;
use super::table::Command;
use super::zset_changes::{remove_members, set_scores, Rules};
use super::zset_view::{write_score, Scored};
use super::{geo, geo_search, zset_algebra, zset_picks, zset_pops, zset_ranges, Args, Fail};
use crate::compact::Compact;
use crate::layout::Kind;
use crate::owner::collections::score_sort;
use crate::owner::large::score_of;
use crate::owner::Owner;

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    use Command::*;
    match command {
        Zadd => add(owner, args, out),
        Zincrby => {
            let by = score_arg(args[2])?;
            let rules = Rules {
                add: true,
                ..Rules::default()
            };
            let outcome = set_scores(owner, args[1], &[(by, args[3])], rules)?;
            write_score(outcome.score.expect("no rule forbids it"), out);
            Ok(())
        }
        Zrem => {
            let gone = remove_members(owner, args[1], &args[2..])?;
            out.int(gone as i64);
            Ok(())
        }
        Zrangestore | Zremrangebyrank | Zremrangebyscore | Zremrangebylex => zset_ranges::run(owner, command, args, out),
        Zpopmin | Zpopmax | Bzpopmin | Bzpopmax | Zmpop | Bzmpop => zset_pops::run(owner, command, args, out),
        Geoadd => geo::add(owner, args, out),
        Zscan => zset_picks::scan(owner, args, out),
        Geosearchstore | Georadius | Georadiusbymember => geo_search::run(owner, command, args, out),
        _ => zset_algebra::run(owner, command, args, out),
    }
}

/// Commands that a lock-free reader answers too.
pub fn read<V: View, S: Sink>(view: &mut V, command: Command, args: &Args, out: &mut S) -> Result<(), Fail> {
    use Command::*;
    match command {
        Zscore | Zmscore => {
            let scores = scores_of(view, args[1], &args[2..])?;
            if command == Zmscore {
                out.array(scores.len());
            }
            for score in scores {
                match score {
                    Some(score) => write_score(score, out),
                    None => out.nil(),
                }
            }
            Ok(())
        }
        Zcard => {
            let length = match if_small(view, args[1], Kind::Zset, |compact| compact.map_or(0, |zset| zset.count))? {
                Some(length) => length,
                None => {
                    let (owner, large) = large_of(view, args[1], Kind::Zset)?;
                    owner.length(&large)
                }
            };
            out.int(length as i64);
            Ok(())
        }
        Zrank | Zrevrank => rank(view, command == Zrevrank, args, out),
        Zrandmember => zset_picks::random(view, args, out),
        Geopos | Geodist | Geohash => geo::read(view, command, args, out),
        Geosearch | GeoradiusRo | GeoradiusbymemberRo => geo_search::read(view, command, args, out),
        _ => zset_ranges::read(view, command, args, out),
    }
}

/// The scores of members, None for those that are missing.
pub fn scores_of<V: View>(view: &mut V, key: &[u8], members: &[&[u8]]) -> Result<Vec<Option<f64>>, Fail> {
    let small = |compact: Option<Compact>| {
        members
            .iter()
            .map(|member| compact.and_then(|zset| zset.score(member)))
            .collect()
    };
    let large = |found: &[Option<Vec<u8>>]| {
        found
            .iter()
            .map(|value| value.as_ref().map(|value| score_of(value)))
            .collect()
    };
    look_for(view, key, Kind::Zset, members, small, large)
}

fn add(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let mut rules = Rules::default();
    let mut count_changed = false;
    let mut at = 2;
    while let Some(word) = args.get(at) {
        match word.to_ascii_lowercase().as_slice() {
            b"nx" => rules.only_new = true,
            b"xx" => rules.only_existing = true,
            b"gt" => rules.only_greater = true,
            b"lt" => rules.only_less = true,
            b"ch" => count_changed = true,
            b"incr" => rules.add = true,
            _ => break,
        }
        at += 1;
    }
    let pairs = &args[at..];
    if pairs.is_empty() || pairs.len() % 2 != 0 {
        return Err(Fail::syntax());
    }
    if rules.only_new && rules.only_existing {
        return Err(Fail::err("XX and NX options at the same time are not compatible"));
    }
    if (rules.only_new as u8 + rules.only_greater as u8 + rules.only_less as u8) > 1 {
        return Err(Fail::err("GT, LT, and/or NX options at the same time are not compatible"));
    }
    if rules.add && pairs.len() > 2 {
        return Err(Fail::err("INCR option supports a single increment-element pair"));
    }
    let mut scored: Vec<Scored> = Vec::with_capacity(pairs.len() / 2);
    for pair in pairs.chunks_exact(2) {
        scored.push((score_arg(pair[0])?, pair[1]));
    }
    if rules.add {
        owner.event = event("zincr");
    }
    let outcome = set_scores(owner, args[1], &scored, rules)?;
    match (rules.add, outcome.score) {
        (true, Some(score)) => write_score(score, out),
        (true, None) => out.nil(),
        (false, _) => out.int((outcome.added + if count_changed { outcome.updated } else { 0 }) as i64),
    }
    Ok(())
}

fn rank<V: View, S: Sink>(view: &mut V, reverse: bool, args: &Args, out: &mut S) -> Result<(), Fail> {
    let with_score = match args.get(3) {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"withscore") && args.len() == 4 => true,
        Some(_) => return Err(Fail::syntax()),
    };
    let (key, member) = (args[1], args[2]);
    let small = if_small(view, key, Kind::Zset, |compact| {
        let zset = compact?;
        let (rank, (score, _)) = zset.scored().enumerate().find(|(_, (_, name))| *name == member)?;
        Some((rank, score, zset.count))
    })?;
    let found = match small {
        Some(found) => found,
        None => {
            let (owner, large) = large_of(view, key, Kind::Zset)?;
            let score = owner.part(&large, member).map(|entry| score_of(owner.value(&entry)));
            let length = owner.length(&large);
            score.and_then(|score| {
                let (position, there) = owner.find_in_order(&large, score_sort(score), member);
                there.then(|| (owner.known_order(&large).rank(position), score, length))
            })
        }
    };
    match found {
        None => out.nil(),
        Some((rank, score, length)) => {
            let rank = if reverse { length.saturating_sub(rank + 1) } else { rank };
            if with_score {
                out.array(2);
            }
            out.int(rank as i64);
            if with_score {
                write_score(score, out);
            }
        }
    }
    Ok(())
}
