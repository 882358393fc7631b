//! Places on the earth as scores of sorted sets: the 52 bits of an interleaved geohash, as in Redis.
//!
//! A place's latitude and longitude are cut into 2^26 steps each, and the bits of both numbers alternate (G. M. Morton, "A computer oriented geodetic
//! data base", 1966; Gustavo Niemeyer's geohash, 2008). Latitudes end where the square of the Web Mercator projection does (EPSG:3857). Distances are
//! great circles by the haversine formula (R. W. Sinnott, "Virtues of the Haversine", 1984) on a sphere of Redis' radius.

use super::read::View;
use super::reply::Sink;
use super::scores::score_arg;
use super::table::Command;
use super::zset_changes::{set_scores, Rules};
use super::zset_view::Scored;
use super::zsets::scores_of;
use super::{Args, Fail};
use crate::owner::Owner;

pub const LATITUDE_MAX: f64 = 85.05112878;
pub const LONGITUDE_MAX: f64 = 180.0;
pub const EARTH_RADIUS_M: f64 = 6372797.560856;
/// Bits of each coordinate.
pub const STEPS: u32 = 26;

/// Degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

/// The lower 32 bits, with a zero before each.
fn spread(number: u32) -> u64 {
    let mut bits = number as u64;
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Every second bit.
fn gather(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

pub fn interleave(latitude: u32, longitude: u32) -> u64 {
    spread(latitude) | spread(longitude) << 1
}

/// The step that a coordinate lies in, of 2^`bits` between -`most` and `most`. (At the upper end it is one more than there are, as in Redis.)
pub fn step_of(degrees: f64, most: f64, bits: u32) -> u32 {
    ((degrees + most) / (2.0 * most) * (1u64 << bits) as f64) as u32
}

/// The middle of a step of 2^26.
fn middle(step: u32, most: f64) -> f64 {
    let edge = |step: u64| -most + step as f64 / (1u64 << STEPS) as f64 * (2.0 * most);
    ((edge(step as u64) + edge(step as u64 + 1)) / 2.0).clamp(-most, most)
}

impl Point {
    pub fn parse(longitude: &[u8], latitude: &[u8]) -> Result<Point, Fail> {
        let (longitude, latitude) = (score_arg(longitude)?, score_arg(latitude)?);
        if longitude.abs() > LONGITUDE_MAX || latitude.abs() > LATITUDE_MAX {
            return Err(Fail::err(format!(
                "invalid longitude,latitude pair {longitude:.6},{latitude:.6}"
            )));
        }
        Ok(Point { longitude, latitude })
    }

    pub fn score(&self) -> f64 {
        let latitude = step_of(self.latitude, LATITUDE_MAX, STEPS);
        interleave(latitude, step_of(self.longitude, LONGITUDE_MAX, STEPS)) as f64
    }

    pub fn of_score(score: f64) -> Point {
        let bits = score as u64;
        Point {
            longitude: middle(gather(bits >> 1), LONGITUDE_MAX),
            latitude: middle(gather(bits), LATITUDE_MAX),
        }
    }

    /// Metres.
    pub fn distance(&self, other: &Point) -> f64 {
        let (one, another) = (self.latitude.to_radians(), other.latitude.to_radians());
        let by_latitude = ((another - one) / 2.0).sin();
        let by_longitude = ((other.longitude.to_radians() - self.longitude.to_radians()) / 2.0).sin();
        let haversine = by_latitude * by_latitude + one.cos() * another.cos() * by_longitude * by_longitude;
        2.0 * EARTH_RADIUS_M * haversine.sqrt().min(1.0).asin()
    }
}

/// Metres of a unit.
pub fn unit_arg(text: &[u8]) -> Result<f64, Fail> {
    match text.to_ascii_lowercase().as_slice() {
        b"m" => Ok(1.0),
        b"km" => Ok(1000.0),
        b"ft" => Ok(0.3048),
        b"mi" => Ok(1609.34),
        _ => Err(Fail::err("unsupported unit provided. please use M, KM, FT, MI")),
    }
}

pub fn write_distance(distance: f64, out: &mut impl Sink) {
    out.bytes(format!("{distance:.4}").as_bytes());
}

pub fn write_point(point: Point, out: &mut impl Sink) {
    out.array(2);
    for degrees in [point.longitude, point.latitude] {
        let text = format!("{degrees:.17}");
        out.bytes(text.trim_end_matches('0').trim_end_matches('.').as_bytes());
    }
}

/// The usual geohash, whose latitudes reach the poles: ten characters of five bits, and a last one that has no bits left.
fn geohash(point: Point) -> [u8; 11] {
    const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
    let bits = interleave(
        step_of(point.latitude, 90.0, STEPS),
        step_of(point.longitude, LONGITUDE_MAX, STEPS),
    );
    let mut text = [b'0'; 11];
    for (index, char) in text[..10].iter_mut().enumerate() {
        *char = ALPHABET[(bits >> (52 - 5 * (index + 1))) as usize & 31];
    }
    text
}

/// GEOADD.
pub fn add(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let mut rules = Rules::default();
    let mut count_changed = false;
    let mut at = 2;
    while let Some(word) = args.get(at) {
        match word.to_ascii_lowercase().as_slice() {
            b"nx" => rules.only_new = true,
            b"xx" => rules.only_existing = true,
            b"ch" => count_changed = true,
            _ => break,
        }
        at += 1;
    }
    let triples = &args[at..];
    if triples.len() % 3 != 0 || (rules.only_new && rules.only_existing) {
        return Err(Fail::syntax());
    }
    let mut pairs: Vec<Scored> = Vec::with_capacity(triples.len() / 3);
    for triple in triples.chunks_exact(3) {
        pairs.push((Point::parse(triple[0], triple[1])?.score(), triple[2]));
    }
    if pairs.is_empty() {
        return Err(Fail::syntax());
    }
    let outcome = set_scores(owner, args[1], &pairs, rules)?;
    out.int((outcome.added + if count_changed { outcome.updated } else { 0 }) as i64);
    Ok(())
}

/// GEOPOS, GEOHASH, GEODIST.
pub fn read<V: View, S: Sink>(view: &mut V, command: Command, args: &Args, out: &mut S) -> Result<(), Fail> {
    if command == Command::Geodist {
        let unit = match args.len() {
            4 => 1.0,
            5 => unit_arg(args[4])?,
            _ => return Err(Fail::syntax()),
        };
        match scores_of(view, args[1], &args[2..4])?[..] {
            [Some(one), Some(other)] => write_distance(Point::of_score(one).distance(&Point::of_score(other)) / unit, out),
            _ => out.nil(),
        }
        return Ok(());
    }
    let scores = scores_of(view, args[1], &args[2..])?;
    out.array(scores.len());
    for score in scores {
        match score.map(Point::of_score) {
            None => out.nil(),
            Some(point) if command == Command::Geopos => write_point(point, out),
            Some(point) => out.bytes(&geohash(point)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_redis() {
        let palermo = Point {
            longitude: 13.361389,
            latitude: 38.115556,
        };
        let catania = Point {
            longitude: 15.087269,
            latitude: 37.502669,
        };
        assert_eq!(palermo.score(), 3479099956230698.0);
        assert_eq!(catania.score(), 3479447370796909.0);
        let (one, other) = (Point::of_score(palermo.score()), Point::of_score(catania.score()));
        assert!((one.longitude - 13.36138933897018433).abs() < 1e-12 && (one.latitude - 38.11555639549629859).abs() < 1e-12);
        assert!((one.distance(&other) - 166274.1516).abs() < 1e-3);
        assert_eq!(&geohash(one), b"sqc8b49rny0");
        assert_eq!(&geohash(other), b"sqdtr74hyu0");
    }

    #[test]
    fn bits_alternate_and_come_back() {
        for (one, other) in [(0, 0), (1, 0), (0, 1), (0x3ff_ffff, 0x155_5555), (u32::MAX, 0)] {
            let bits = interleave(one, other);
            assert_eq!((gather(bits), gather(bits >> 1)), (one, other));
        }
    }
}
