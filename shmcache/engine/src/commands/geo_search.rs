//! Looking for members near a place: GEOSEARCH and the older GEORADIUS.
//!
//! What is asked for lies in a box of longitudes and latitudes (Jan Philip Matuschek, "Finding Points Within a Distance of a Latitude/Longitude Using
//! Bounding Coordinates", 2010). The box is covered by few cells of one size, each a range of scores, and what lies in them is measured.

use super::geo::{interleave, step_of, unit_arg, write_distance, write_point, Point};
use super::geo::{EARTH_RADIUS_M, LATITUDE_MAX, LONGITUDE_MAX, STEPS};
use super::number::int_arg;
use super::read::View;
use super::reply::Sink;
use super::scores::{score_arg, ScoreBound};
use super::sort::check_target;
use super::table::Command;
use super::zset_changes::{element_of, sort};
use super::zset_view::{look, Ranked, Scored};
use super::zsets::scores_of;
use super::{events::event, Args, Fail};
use crate::layout::Kind;
use crate::owner::large::Element;
use crate::owner::Owner;

/// Cells that a box may touch: as many as a circle of the size of a cell does.
const CELLS_MAX: u32 = 9;

pub fn run(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Geosearchstore => {
            let query = Query::parse(owner, command, args, 2)?;
            let found = find(owner, args[2], &query)?;
            store(owner, args[1], &query, found, out)
        }
        _ => {
            let query = Query::parse(owner, command, args, 1)?;
            let found = find(owner, args[1], &query)?;
            match query.target {
                Some(target) => {
                    check_target(owner, target)?;
                    store(owner, target, &query, found, out)
                }
                None => {
                    write(&query, &found, out);
                    Ok(())
                }
            }
        }
    }
}

pub fn read<V: View, S: Sink>(view: &mut V, command: Command, args: &Args, out: &mut S) -> Result<(), Fail> {
    let query = Query::parse(view, command, args, 1)?;
    let found = find(view, args[1], &query)?;
    write(&query, &found, out);
    Ok(())
}

// ---------------------------------------------------------------- what is asked

/// Metres.
#[derive(Clone, Copy)]
enum Shape {
    Circle(f64),
    /// Width and height.
    Box(f64, f64),
}

#[derive(Clone, Copy, PartialEq)]
enum Sorted {
    Not,
    Nearest,
    Farthest,
}

struct Query<'a> {
    /// None: the sorted set is missing, and so is the member to start from.
    center: Option<Point>,
    shape: Shape,
    /// Metres.
    unit: f64,
    sorted: Sorted,
    /// 0: all.
    count: usize,
    any: bool,
    with_distance: bool,
    with_hash: bool,
    with_point: bool,
    target: Option<&'a [u8]>,
    /// The distances are stored.
    by_distance: bool,
}

fn length_arg(text: &[u8], wrong: &'static str, negative: &'static str) -> Result<f64, Fail> {
    let length = score_arg(text).map_err(|_| Fail::err(wrong))?;
    if length < 0.0 {
        return Err(Fail::err(negative));
    }
    Ok(length)
}

/// A radius and its unit: metres of both.
fn radius_arg(radius: &[u8], unit: &[u8]) -> Result<(Shape, f64), Fail> {
    let radius = length_arg(radius, "need numeric radius", "radius cannot be negative")?;
    let unit = unit_arg(unit)?;
    Ok((Shape::Circle(radius * unit), unit))
}

fn box_arg(width: &[u8], height: &[u8], unit: &[u8]) -> Result<(Shape, f64), Fail> {
    const NEGATIVE: &str = "height or width cannot be negative";
    let number = |text, wrong| score_arg(text).map_err(|_| Fail::err(wrong));
    let (width, height) = (number(width, "need numeric width")?, number(height, "need numeric height")?);
    if width < 0.0 || height < 0.0 {
        return Err(Fail::err(NEGATIVE));
    }
    let unit = unit_arg(unit)?;
    Ok((Shape::Box(width * unit, height * unit), unit))
}

impl<'a> Query<'a> {
    /// The key to search is argument number `key_at`; behind it stands what is asked.
    fn parse<V: View>(view: &mut V, command: Command, all: &[&'a [u8]], key_at: usize) -> Result<Query<'a>, Fail> {
        use Command::*;
        let (key, args) = (all[key_at], &all[key_at + 1..]);
        let exists = look(view, key, |ranked| ranked.len())? > 0;
        let (mut center, mut shape) = (None, None);
        let mut from_given = false;
        let (searches, stores) = (matches!(command, Geosearch | Geosearchstore), command == Geosearchstore);
        let mut rest = match command {
            Georadius | GeoradiusRo => {
                center = Some(Point::parse(args[0], args[1])?);
                shape = Some(radius_arg(args[2], args[3])?);
                &args[4..]
            }
            Georadiusbymember | GeoradiusbymemberRo => {
                center = member_point(view, key, exists, args[0])?;
                shape = Some(radius_arg(args[1], args[2])?);
                &args[3..]
            }
            _ => args,
        };
        let mut query = Query {
            center: None,
            shape: Shape::Circle(0.0),
            unit: 1.0,
            sorted: Sorted::Not,
            count: 0,
            any: false,
            with_distance: false,
            with_hash: false,
            with_point: false,
            target: None,
            by_distance: false,
        };
        while let Some((word, after)) = rest.split_first() {
            let may_store = matches!(command, Georadius | Georadiusbymember);
            rest = match (word.to_ascii_lowercase().as_slice(), after) {
                (b"withdist", _) => {
                    query.with_distance = true;
                    after
                }
                (b"withhash", _) => {
                    query.with_hash = true;
                    after
                }
                (b"withcoord", _) => {
                    query.with_point = true;
                    after
                }
                (b"any", _) => {
                    query.any = true;
                    after
                }
                (b"asc", _) => {
                    query.sorted = Sorted::Nearest;
                    after
                }
                (b"desc", _) => {
                    query.sorted = Sorted::Farthest;
                    after
                }
                (b"count", [count, after @ ..]) => {
                    let count = int_arg(count)?;
                    query.count = usize::try_from(count)
                        .ok()
                        .filter(|&count| count > 0)
                        .ok_or_else(|| Fail::err("COUNT must be > 0"))?;
                    after
                }
                (b"store", [target, after @ ..]) if may_store => {
                    (query.target, query.by_distance) = (Some(*target), false);
                    after
                }
                (b"storedist", [target, after @ ..]) if may_store => {
                    (query.target, query.by_distance) = (Some(*target), true);
                    after
                }
                (b"storedist", _) if stores => {
                    query.by_distance = true;
                    after
                }
                (b"frommember", [member, after @ ..]) if searches && !from_given => {
                    center = member_point(view, key, exists, member)?;
                    from_given = true;
                    after
                }
                (b"fromlonlat", [longitude, latitude, after @ ..]) if searches && !from_given => {
                    center = Some(Point::parse(longitude, latitude)?);
                    from_given = true;
                    after
                }
                (b"byradius", [radius, unit, after @ ..]) if searches && shape.is_none() => {
                    shape = Some(radius_arg(radius, unit)?);
                    after
                }
                (b"bybox", [width, height, unit, after @ ..]) if searches && shape.is_none() => {
                    shape = Some(box_arg(width, height, unit)?);
                    after
                }
                _ => return Err(Fail::syntax()),
            };
        }
        if (query.target.is_some() || stores) && (query.with_distance || query.with_hash || query.with_point) {
            let who = if stores {
                "GEOSEARCHSTORE"
            } else {
                "STORE option in GEORADIUS"
            };
            return Err(Fail::err(format!(
                "{who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let name = String::from_utf8_lossy(all[0]);
        if searches && !from_given {
            return Err(Fail::err(format!(
                "exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}"
            )));
        }
        let Some((shape, unit)) = shape else {
            return Err(Fail::err(format!(
                "exactly one of BYRADIUS and BYBOX can be specified for {name}"
            )));
        };
        if query.any && query.count == 0 {
            return Err(Fail::err("the ANY argument requires COUNT argument"));
        }
        if query.count > 0 && query.sorted == Sorted::Not && !query.any {
            query.sorted = Sorted::Nearest;
        }
        (query.center, query.shape, query.unit) = (center, shape, unit);
        Ok(query)
    }
}

fn member_point<V: View>(view: &mut V, key: &[u8], exists: bool, member: &[u8]) -> Result<Option<Point>, Fail> {
    if !exists {
        return Ok(None);
    }
    let score = scores_of(view, key, &[member])?[0].ok_or_else(|| Fail::err("could not decode requested zset member"))?;
    Ok(Some(Point::of_score(score)))
}

// ---------------------------------------------------------------- what is found

struct Found {
    member: Vec<u8>,
    score: f64,
    point: Point,
    /// Metres.
    distance: f64,
}

impl Shape {
    /// How far away a place in it is, metres; None if it is outside.
    fn distance(self, center: &Point, point: &Point) -> Option<f64> {
        let distance = center.distance(point);
        let inside = match self {
            Shape::Circle(radius) => distance <= radius,
            Shape::Box(width, height) => {
                let beside = Point {
                    longitude: center.longitude,
                    latitude: point.latitude,
                };
                // North and south along the meridian, east and west along the place's own parallel.
                beside.distance(center) <= height / 2.0 && beside.distance(point) <= width / 2.0
            }
        };
        inside.then_some(distance)
    }

    /// Half of the box around it, degrees: longitude, latitude.
    fn reach(self, center: &Point) -> (f64, f64) {
        const ALL: f64 = 360.0;
        // A little more, for what rounding takes.
        let angle = |metres: f64| metres * (1.0 + 1e-9) / EARTH_RADIUS_M + 1e-9;
        let (by_longitude, by_latitude) = match self {
            Shape::Circle(radius) => (angle(radius), angle(radius)),
            Shape::Box(width, height) => (angle(width / 2.0), angle(height / 2.0)),
        };
        let farthest = (center.latitude.abs().to_radians() + by_latitude).min(LATITUDE_MAX.to_radians());
        let longitude = match self {
            // The circle touches meridians further away the nearer it is to a pole.
            Shape::Circle(_) if center.latitude.abs().to_radians() + by_latitude < std::f64::consts::FRAC_PI_2 => {
                (by_longitude.sin() / center.latitude.to_radians().cos()).min(1.0).asin()
            }
            Shape::Circle(_) => return (ALL, by_latitude.to_degrees()),
            Shape::Box(..) if by_longitude >= std::f64::consts::FRAC_PI_2 => return (ALL, by_latitude.to_degrees()),
            Shape::Box(..) => match (by_longitude / 2.0).sin() / farthest.cos() {
                sine if sine < 1.0 => 2.0 * sine.asin(),
                _ => return (ALL, by_latitude.to_degrees()),
            },
        };
        (longitude.to_degrees() + 1e-9, by_latitude.to_degrees() + 1e-9)
    }
}

/// Ranges of scores, both ends included, that cover a box of longitudes and latitudes, in order and apart from each other.
fn cover(center: &Point, (longitude, latitude): (f64, f64)) -> Vec<(f64, f64)> {
    let south = (center.latitude - latitude).max(-LATITUDE_MAX);
    let north = (center.latitude + latitude).min(LATITUDE_MAX);
    let (west, east) = (center.longitude - longitude, center.longitude + longitude);
    const ALL: f64 = LONGITUDE_MAX;
    let stripes = if longitude >= ALL {
        vec![(-ALL, ALL)]
    } else if west < -ALL {
        vec![(-ALL, east), (west + 2.0 * ALL, ALL)]
    } else if east > ALL {
        vec![(west, ALL), (-ALL, east - 2.0 * ALL)]
    } else {
        vec![(west, east)]
    };
    let mut ranges = Vec::new();
    for (west, east) in stripes {
        let columns = |bits| (step_of(west, ALL, bits), step_of(east, ALL, bits));
        let rows = |bits| (step_of(south, LATITUDE_MAX, bits), step_of(north, LATITUDE_MAX, bits));
        let cells = |bits| {
            let ((left, right), (low, high)) = (columns(bits), rows(bits));
            (right - left + 1) as u64 * (high - low + 1) as u64
        };
        let bits = (1..=STEPS).rev().find(|&bits| cells(bits) <= CELLS_MAX as u64).unwrap_or(1);
        let ((left, right), (low, high)) = (columns(bits), rows(bits));
        let shift = 2 * (STEPS - bits);
        for column in left..=right {
            for row in low..=high {
                let first = interleave(row, column) << shift;
                ranges.push((first, first + (1 << shift) - 1));
            }
        }
    }
    ranges.sort_unstable();
    let mut apart: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match apart.last_mut() {
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    apart.into_iter().map(|(first, last)| (first as f64, last as f64)).collect()
}

fn find<V: View>(view: &mut V, key: &[u8], query: &Query) -> Result<Vec<Found>, Fail> {
    let Some(center) = query.center else { return Ok(Vec::new()) };
    let ranges = cover(&center, query.shape.reach(&center));
    let enough = if query.any { query.count } else { usize::MAX };
    let mut found = look(view, key, |ranked| search(ranked, &ranges, &center, query.shape, enough))?;
    if query.sorted != Sorted::Not {
        found.sort_by(|one, other| one.distance.total_cmp(&other.distance));
        if query.sorted == Sorted::Farthest {
            found.reverse();
        }
    }
    if query.count > 0 {
        found.truncate(query.count);
    }
    Ok(found)
}

fn search(ranked: &Ranked, ranges: &[(f64, f64)], center: &Point, shape: Shape, enough: usize) -> Vec<Found> {
    let bound = |score| ScoreBound { score, excluded: false };
    let mut found = Vec::new();
    for &(first, last) in ranges {
        ranked.each(ranked.by_score(bound(first), bound(last)), false, |(score, member)| {
            if found.len() >= enough {
                return;
            }
            let point = Point::of_score(score);
            if let Some(distance) = shape.distance(center, &point) {
                found.push(Found {
                    member: member.to_vec(),
                    score,
                    point,
                    distance,
                });
            }
        });
    }
    found
}

fn write(query: &Query, found: &[Found], out: &mut impl Sink) {
    let fields = 1 + query.with_distance as usize + query.with_hash as usize + query.with_point as usize;
    out.array(found.len());
    for one in found {
        if fields > 1 {
            out.array(fields);
        }
        out.bytes(&one.member);
        if query.with_distance {
            write_distance(one.distance / query.unit, out);
        }
        if query.with_hash {
            out.int(one.score as i64);
        }
        if query.with_point {
            write_point(one.point, out);
        }
    }
}

fn store(owner: &mut Owner, target: &[u8], query: &Query, found: Vec<Found>, out: &mut impl Sink) -> Result<(), Fail> {
    let score = |one: &Found| {
        if query.by_distance {
            one.distance / query.unit
        } else {
            one.score
        }
    };
    let mut all: Vec<Scored> = found.iter().map(|one| (score(one), one.member.as_slice())).collect();
    sort(&mut all);
    let elements: Vec<Element> = all.into_iter().map(element_of).collect();
    if elements.is_empty() {
        owner.event = event("del");
    }
    owner.store(target, Kind::Zset, &elements, 0)?;
    out.int(elements.len() as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::testing::Random;

    /// Whatever lies in a shape lies in the cells that cover it.
    #[test]
    fn nothing_inside_is_missed() {
        let mut random = Random(3);
        let mut degrees = |most: f64| (random.below(2_000_001) as f64 / 1e6 - 1.0) * most;
        for round in 0..3000 {
            let center = Point {
                longitude: degrees(180.0),
                latitude: degrees(LATITUDE_MAX),
            };
            let size = 10f64.powf(4.5 + degrees(3.0));
            let shape = if round % 2 == 0 {
                Shape::Circle(size)
            } else {
                Shape::Box(size, size * 2.0)
            };
            let ranges = cover(&center, shape.reach(&center));
            assert!(ranges.len() <= 2 * CELLS_MAX as usize);
            let (wide, high) = shape.reach(&center);
            for _ in 0..50 {
                let longitude = (center.longitude + degrees(wide.min(180.0)) * 1.2 + 540.0).rem_euclid(360.0) - 180.0;
                let latitude = (center.latitude + degrees(high) * 1.2).clamp(-LATITUDE_MAX, LATITUDE_MAX);
                let score = Point { longitude, latitude }.score();
                if shape.distance(&center, &Point::of_score(score)).is_some() {
                    assert!(
                        ranges.iter().any(|&(first, last)| first <= score && score <= last),
                        "{center:?} {size} {longitude} {latitude}"
                    );
                }
            }
        }
    }
}
