//! LCS: the longest common subsequence of two values, by the table of Wagner and Fischer (1974).
//!
//! Only two rows of lengths are kept. For the way back one bit a cell says where it came from, so memory is an eighth of a byte
//! a cell; the number of cells is limited because time grows with it.

use super::number::int_arg;
use super::read::{string_of, Part, Seen, View};
use super::reply::Sink;
use super::{expect_string, Args, Fail};

/// Product of the lengths: as many cells as Redis allows by default. About a fifth of a second.
const CELLS_MAX: u64 = 1 << 27;

#[derive(Default)]
struct Options {
    length: bool,
    ranges: bool,
    least: usize,
    with_lengths: bool,
}

impl Options {
    fn parse(options: &Args) -> Result<Options, Fail> {
        let mut parsed = Options::default();
        let mut rest = options.iter();
        while let Some(option) = rest.next() {
            match option.to_ascii_uppercase().as_slice() {
                b"LEN" => parsed.length = true,
                b"IDX" => parsed.ranges = true,
                b"WITHMATCHLEN" => parsed.with_lengths = true,
                b"MINMATCHLEN" => {
                    let least = int_arg(rest.next().ok_or_else(Fail::syntax)?)?;
                    parsed.least = least.max(0) as usize;
                }
                _ => return Err(Fail::syntax()),
            }
        }
        if parsed.length && parsed.ranges {
            return Err(Fail::err("If you want both the length and indexes, please just use IDX."));
        }
        Ok(parsed)
    }
}

pub fn run<V: View>(view: &mut V, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    // The sizes first: values that are refused are not copied.
    let sizes = [args[1], args[2]].map(|key| view.look(key, Part::Nothing, |seen| seen.map_or(Ok(0), size_of)));
    let [one, other] = sizes;
    let (one, other) = (one??, other??);
    let options = Options::parse(&args[3..])?;
    check_cells(one, other)?;
    let mut copy = |key| {
        view.look(key, Part::All, |seen| {
            Ok::<Vec<u8>, Fail>(string_of(seen)?.unwrap_or_default().to_vec())
        })?
    };
    let (one, other) = (copy(args[1])?, copy(args[2])?);
    check_cells(one.len() as u64, other.len() as u64)?;
    if options.length {
        let length = fill(&one, &other, |_, _| {});
        out.int(length as i64);
        return Ok(());
    }
    let mut up = Bits::new(one.len() * other.len());
    let width = other.len();
    let length = fill(&one, &other, |row, column| up.set(row * width + column));
    let matches = runs(&one, &other, |row, column| up.get(row * width + column));
    if !options.ranges {
        let mut common = Vec::with_capacity(length as usize);
        for run in matches.iter().rev() {
            common.extend_from_slice(&one[run.one..run.one + run.bytes]);
        }
        out.bytes(&common);
        return Ok(());
    }
    let shown: Vec<&Run> = matches.iter().filter(|run| run.bytes >= options.least).collect();
    out.array(4);
    out.bytes(b"matches");
    out.array(shown.len());
    for run in shown {
        out.array(2 + options.with_lengths as usize);
        for start in [run.one, run.other] {
            out.array(2);
            out.int(start as i64);
            out.int((start + run.bytes - 1) as i64);
        }
        if options.with_lengths {
            out.int(run.bytes as i64);
        }
    }
    out.bytes(b"len");
    out.int(length as i64);
    Ok(())
}

fn size_of(seen: Seen) -> Result<u64, Fail> {
    match expect_string(seen.kind_code) {
        Ok(()) => Ok(seen.total),
        Err(_) => Err(Fail::err("The specified keys must contain string values")),
    }
}

fn check_cells(one: u64, other: u64) -> Result<(), Fail> {
    if (one + 1).saturating_mul(other + 1) > CELLS_MAX {
        return Err(Fail::new(
            "LIMIT",
            format!("LCS of values whose lengths' product is over {CELLS_MAX} takes too long"),
        ));
    }
    Ok(())
}

/// Bytes that follow each other in both values.
#[derive(Debug, PartialEq)]
struct Run {
    one: usize,
    other: usize,
    bytes: usize,
}

/// The length of the longest common subsequence. `above` is told of each cell whose upper neighbour is better than its left one.
fn fill(one: &[u8], other: &[u8], mut above: impl FnMut(usize, usize)) -> u32 {
    let mut row = vec![0u32; other.len() + 1];
    for (number, byte) in one.iter().enumerate() {
        let mut diagonal = 0;
        for column in 0..other.len() {
            let (up, left) = (row[column + 1], row[column]);
            row[column + 1] = if *byte == other[column] {
                diagonal + 1
            } else if up > left {
                above(number, column);
                up
            } else {
                left
            };
            diagonal = up;
        }
    }
    row[other.len()]
}

/// The way back through the table, last run first.
fn runs(one: &[u8], other: &[u8], above: impl Fn(usize, usize) -> bool) -> Vec<Run> {
    let mut found: Vec<Run> = Vec::new();
    let (mut row, mut column) = (one.len(), other.len());
    while row > 0 && column > 0 {
        if one[row - 1] == other[column - 1] {
            row -= 1;
            column -= 1;
            match found.last_mut() {
                Some(run) if run.one == row + 1 && run.other == column + 1 => {
                    *run = Run {
                        one: row,
                        other: column,
                        bytes: run.bytes + 1,
                    }
                }
                _ => found.push(Run {
                    one: row,
                    other: column,
                    bytes: 1,
                }),
            }
        } else if above(row - 1, column - 1) {
            row -= 1;
        } else {
            column -= 1;
        }
    }
    found
}

struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Bits {
        Bits(vec![0; count.div_ceil(64)])
    }

    fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::testing::Random;

    fn length_by_definition(one: &[u8], other: &[u8]) -> u32 {
        match (one.split_last(), other.split_last()) {
            (Some((a, one_rest)), Some((b, other_rest))) if a == b => 1 + length_by_definition(one_rest, other_rest),
            (Some((_, one_rest)), Some((_, other_rest))) => {
                length_by_definition(one_rest, other).max(length_by_definition(one, other_rest))
            }
            _ => 0,
        }
    }

    #[test]
    fn lengths_and_runs_are_those_of_the_definition() {
        let mut random = Random(5);
        for _ in 0..300 {
            let mut text = || -> Vec<u8> { (0..random.below(9)).map(|_| b'a' + random.below(3) as u8).collect() };
            let (one, other) = (text(), text());
            let mut up = Bits::new(one.len() * other.len());
            let length = fill(&one, &other, |row, column| up.set(row * other.len() + column));
            assert_eq!(length, length_by_definition(&one, &other));
            let found = runs(&one, &other, |row, column| up.get(row * other.len() + column));
            assert_eq!(found.iter().map(|run| run.bytes as u32).sum::<u32>(), length);
            for run in &found {
                assert_eq!(one[run.one..run.one + run.bytes], other[run.other..run.other + run.bytes]);
            }
        }
    }
}
