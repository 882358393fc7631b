//! HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007): PFADD, PFCOUNT, PFMERGE. 16384 registers, standard error 0.81 %.
//!
//! The estimator is the improved raw estimator of O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017,
//! arXiv:1702.01284, section 4): no tables, and no bias where other estimators change over.
//!
//! A sketch is a string value: 4 bytes of magic, a byte that names the form, 3 zero bytes, then
//! * sparse: 3 bytes for each register that is not zero, ascending: its number and its content, 14 + 6 bits, highest byte first;
//! * dense: all registers, 6 bits each, the first in the lowest bits of the first byte.
//!
//! Elements are hashed by XXH3-64 with seed 0. That and the layout must stay as they are: sketches outlive the program.

use super::read::{string_of, Part, View};
use super::reply::Sink;
use super::table::Command;
use super::write::{replace, string_entry};
use super::{Args, Fail};
use crate::owner::Owner;
use xxhash_rust::xxh3::xxh3_64;

const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// Hash bits that are not the register's number; a register holds 0 to one more than that.
const RANK_BITS: u32 = 64 - INDEX_BITS;
const RANK_MAX: u8 = RANK_BITS as u8 + 1;

const MAGIC: [u8; 4] = *b"SHLL";
const SPARSE: u8 = 1;
const DENSE: u8 = 2;
const HEADER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 3;
/// Longer ones become dense.
const SPARSE_ENTRIES_MAX: usize = 1000;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;

/// Register and rank of an element.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = xxh3_64(element);
    let rank = (hash >> INDEX_BITS | 1 << RANK_BITS).trailing_zeros() + 1;
    (hash as usize & (REGISTERS - 1), rank as u8)
}

/// A sketch's bytes, checked as far as reading needs it.
struct Sketch<B> {
    bytes: B,
}

impl<B: AsRef<[u8]>> Sketch<B> {
    fn open(bytes: B) -> Result<Sketch<B>, Fail> {
        let value = bytes.as_ref();
        let body = value.len().wrapping_sub(HEADER_BYTES);
        if value.len() < HEADER_BYTES || value[..4] != MAGIC || value[5..HEADER_BYTES] != [0; 3] {
            return Err(Fail::new("WRONGTYPE", "Key is not a valid HyperLogLog string value."));
        }
        match value[4] {
            SPARSE if body.is_multiple_of(ENTRY_BYTES) && body / ENTRY_BYTES <= SPARSE_ENTRIES_MAX => {}
            DENSE if value.len() == DENSE_BYTES => {}
            _ => return Err(corrupted()),
        }
        Ok(Sketch { bytes })
    }

    fn is_sparse(&self) -> bool {
        self.bytes.as_ref()[4] == SPARSE
    }

    fn body(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_BYTES..]
    }

    /// Where the sparse entry of a register is, or belongs.
    fn search(&self, register: usize) -> Result<usize, usize> {
        let body = self.body();
        let (mut low, mut high) = (0, body.len() / ENTRY_BYTES);
        while low < high {
            let middle = (low + high) / 2;
            match entry(body, middle).0.cmp(&register) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn rank(&self, register: usize) -> u8 {
        if self.is_sparse() {
            return self.search(register).map_or(0, |at| entry(self.body(), at).1);
        }
        let (byte, shift) = (register * 6 / 8, register * 6 % 8);
        (pair(self.body(), byte) >> shift & 0x3f) as u8
    }

    /// Every register that is not zero.
    fn for_each(&self, mut visit: impl FnMut(usize, u8)) -> Result<(), Fail> {
        let body = self.body();
        if self.is_sparse() {
            let mut next = 0;
            for at in 0..body.len() / ENTRY_BYTES {
                let (register, rank) = entry(body, at);
                if register < next || register >= REGISTERS || rank == 0 || rank > RANK_MAX {
                    return Err(corrupted());
                }
                next = register + 1;
                visit(register, rank);
            }
            return Ok(());
        }
        for (group, bytes) in body.chunks_exact(3).enumerate() {
            let word = bytes[0] as u32 | (bytes[1] as u32) << 8 | (bytes[2] as u32) << 16;
            for number in 0..4 {
                let rank = (word >> (6 * number) & 0x3f) as u8;
                if rank > RANK_MAX {
                    return Err(corrupted());
                }
                if rank != 0 {
                    visit(group * 4 + number, rank);
                }
            }
        }
        Ok(())
    }
}

impl Sketch<Vec<u8>> {
    fn empty() -> Sketch<Vec<u8>> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = SPARSE;
        Sketch { bytes }
    }

    /// Give a register this rank if it has a lower one. True if it had.
    fn raise(&mut self, register: usize, rank: u8) -> bool {
        if self.rank(register) >= rank {
            return false;
        }
        if self.is_sparse() {
            let packed = ((register as u32) << 6 | rank as u32).to_be_bytes();
            match self.search(register) {
                Ok(at) => {
                    let start = HEADER_BYTES + at * ENTRY_BYTES;
                    self.bytes[start..start + ENTRY_BYTES].copy_from_slice(&packed[1..]);
                    return true;
                }
                Err(at) if self.body().len() / ENTRY_BYTES < SPARSE_ENTRIES_MAX => {
                    let start = HEADER_BYTES + at * ENTRY_BYTES;
                    self.bytes.splice(start..start, packed[1..].iter().copied());
                    return true;
                }
                Err(_) => self.make_dense(),
            }
        }
        self.store(register, rank);
        true
    }

    fn make_dense(&mut self) {
        let sparse = std::mem::replace(&mut self.bytes, vec![0; DENSE_BYTES]);
        self.bytes[..HEADER_BYTES].copy_from_slice(&sparse[..HEADER_BYTES]);
        self.bytes[4] = DENSE;
        let body = &sparse[HEADER_BYTES..];
        for at in 0..body.len() / ENTRY_BYTES {
            let (register, rank) = entry(body, at);
            if register < REGISTERS {
                self.store(register, rank);
            }
        }
    }

    fn store(&mut self, register: usize, rank: u8) {
        let (byte, shift) = (register * 6 / 8, register * 6 % 8);
        let body = &mut self.bytes[HEADER_BYTES..];
        let word = pair(body, byte) & !(0x3f << shift) | (rank as u16) << shift;
        body[byte] = word as u8;
        if let Some(next) = body.get_mut(byte + 1) {
            *next = (word >> 8) as u8;
        }
    }
}

/// Register and rank of the `at`-th sparse entry.
fn entry(body: &[u8], at: usize) -> (usize, u8) {
    let bytes = &body[at * ENTRY_BYTES..][..ENTRY_BYTES];
    let packed = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    ((packed >> 6) as usize, (packed & 0x3f) as u8)
}

/// This byte and the next one, that lower.
fn pair(body: &[u8], byte: usize) -> u16 {
    body[byte] as u16 | (body.get(byte + 1).copied().unwrap_or(0) as u16) << 8
}

fn corrupted() -> Fail {
    Fail::new("INVALIDOBJ", "Corrupted HLL object detected")
}

/// All registers, unpacked: the union of sketches is the larger rank of each.
struct Union {
    ranks: Box<[u8; REGISTERS]>,
}

impl Union {
    fn new() -> Union {
        Union {
            ranks: Box::new([0; REGISTERS]),
        }
    }

    fn add(&mut self, value: &[u8]) -> Result<(), Fail> {
        Sketch::open(value)?.for_each(|register, rank| self.ranks[register] = self.ranks[register].max(rank))
    }

    fn estimate(&self) -> u64 {
        let mut counts = Counts::default();
        self.ranks
            .iter()
            .enumerate()
            .for_each(|(register, &rank)| counts.add(register, rank));
        estimate(&counts.total())
    }
}

/// How many registers hold which rank. Four tables, because neighbours that hold the same would wait for each other in one.
struct Counts([[u32; RANK_MAX as usize + 1]; 4]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([[0; RANK_MAX as usize + 1]; 4])
    }
}

impl Counts {
    #[inline]
    fn add(&mut self, register: usize, rank: u8) {
        self.0[register % 4][rank as usize] += 1;
    }

    fn total(&self) -> [u32; RANK_MAX as usize + 1] {
        let mut total = std::array::from_fn(|rank| self.0.iter().map(|table| table[rank]).sum());
        // Registers that nobody named are zero.
        total[0] += REGISTERS as u32 - total.iter().sum::<u32>();
        total
    }
}

fn estimate_of_one(value: &[u8]) -> Result<u64, Fail> {
    let mut counts = Counts::default();
    Sketch::open(value)?.for_each(|register, rank| counts.add(register, rank))?;
    Ok(estimate(&counts.total()))
}

/// Ertl 2017, algorithm 6. `counts[r]`: how many registers hold r.
fn estimate(counts: &[u32; RANK_MAX as usize + 1]) -> u64 {
    let registers = REGISTERS as f64;
    let mut sum = registers * tau(1.0 - counts[RANK_MAX as usize] as f64 / registers);
    for &count in counts[1..RANK_MAX as usize].iter().rev() {
        sum = 0.5 * (sum + count as f64);
    }
    sum += registers * sigma(counts[0] as f64 / registers);
    // 1 / (2 ln 2) is the limit of the bias constant for many registers.
    (registers * registers / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
}

/// x + sum over k >= 1 of x^(2^k) 2^(k-1); endless for x = 1.
fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut factor, mut sum) = (x, 1.0, x);
    loop {
        power *= power;
        let before = sum;
        sum += power * factor;
        factor += factor;
        if sum == before {
            return sum;
        }
    }
}

/// (1 - x - sum over k >= 1 of (1 - x^(2^-k))^2 2^-k) / 3.
fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut root, mut factor, mut sum) = (x, 1.0, 1.0 - x);
    loop {
        root = root.sqrt();
        let before = sum;
        factor *= 0.5;
        sum -= (1.0 - root) * (1.0 - root) * factor;
        if sum == before {
            return sum / 3.0;
        }
    }
}

pub fn count<V: View>(view: &mut V, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    if let [_, key] = args {
        let estimate = view.look(key, Part::All, |seen| string_of(seen)?.map_or(Ok(0), estimate_of_one))??;
        out.int(estimate as i64);
        return Ok(());
    }
    let mut union = Union::new();
    for key in &args[1..] {
        view.look(key, Part::All, |seen| match string_of(seen)? {
            Some(value) => union.add(value),
            None => Ok(()),
        })??;
    }
    out.int(union.estimate() as i64);
    Ok(())
}

pub fn write(owner: &mut Owner, command: Command, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    match command {
        Command::Pfadd => add(owner, args, out),
        Command::Pfmerge => merge(owner, args, out),
        other => unreachable!("{other:?} writes no HyperLogLog"),
    }
}

/// Writes only if a register rises (or there is no key yet).
fn add(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let entry = string_entry(owner, args[1])?;
    let places = args[2..].iter().map(|element| place(element));
    let risen = match &entry {
        None => {
            let mut sketch = Sketch::empty();
            places.for_each(|(register, rank)| _ = sketch.raise(register, rank));
            Some(sketch)
        }
        Some(entry) => {
            let old = Sketch::open(owner.value(entry))?;
            let higher: Vec<(usize, u8)> = places.filter(|&(register, rank)| old.rank(register) < rank).collect();
            (!higher.is_empty()).then(|| {
                let mut sketch = Sketch {
                    bytes: old.bytes.to_vec(),
                };
                higher
                    .into_iter()
                    .for_each(|(register, rank)| _ = sketch.raise(register, rank));
                sketch
            })
        }
    };
    if let Some(sketch) = &risen {
        replace(owner, args[1], entry, &sketch.bytes)?;
    }
    out.flag(risen.is_some());
    Ok(())
}

fn merge(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let mut union = Union::new();
    for key in &args[1..] {
        if let Some(entry) = string_entry(owner, key)? {
            union.add(owner.value(&entry))?;
        }
    }
    let entry = string_entry(owner, args[1])?;
    let mut sketch = match &entry {
        Some(entry) => Sketch {
            bytes: owner.value(entry).to_vec(),
        },
        None => Sketch::empty(),
    };
    let mut changed = entry.is_none();
    for (register, &rank) in union.ranks.iter().enumerate().filter(|(_, &rank)| rank != 0) {
        changed |= sketch.raise(register, rank);
    }
    if changed {
        replace(owner, args[1], entry, &sketch.bytes)?;
    }
    out.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::testing::Random;

    fn sketch_of(elements: std::ops::Range<u64>) -> Sketch<Vec<u8>> {
        let mut sketch = Sketch::empty();
        for number in elements {
            let (register, rank) = place(&number.to_le_bytes());
            sketch.raise(register, rank);
        }
        sketch
    }

    fn estimate_of(sketches: &[&Sketch<Vec<u8>>]) -> u64 {
        let mut union = Union::new();
        sketches.iter().for_each(|sketch| union.add(&sketch.bytes).unwrap());
        union.estimate()
    }

    #[test]
    fn one_sketch_is_counted_as_a_union_of_one() {
        for count in [0, 1, 500, 3000] {
            let sketch = sketch_of(0..count);
            assert_eq!(estimate_of_one(&sketch.bytes), Ok(estimate_of(&[&sketch])));
        }
    }

    #[test]
    fn estimates_are_within_three_standard_errors() {
        assert_eq!(estimate_of(&[]), 0);
        for count in [1, 2, 10, 100, 900, 5_000, 16_384, 40_000, 100_000, 1_000_000] {
            let start = 1_000_000 * count;
            let error = estimate_of(&[&sketch_of(start..start + count)]) as f64 / count as f64 - 1.0;
            assert!(error.abs() < 3.0 * 0.0081, "{count}: {error}");
        }
    }

    #[test]
    fn the_mean_error_over_many_sketches_is_small() {
        let mut random = Random(11);
        let (rounds, count) = (30, 50_000);
        let mut sum = 0.0;
        for _ in 0..rounds {
            let start = random.number() >> 1;
            sum += estimate_of(&[&sketch_of(start..start + count)]) as f64 / count as f64 - 1.0;
        }
        let mean: f64 = sum / rounds as f64;
        assert!(mean.abs() < 0.006, "biased by {mean}");
    }

    #[test]
    fn the_two_forms_hold_the_same() {
        let mut sparse = sketch_of(0..900);
        assert!(sparse.is_sparse());
        let before: Vec<u8> = (0..REGISTERS).map(|register| sparse.rank(register)).collect();
        sparse.make_dense();
        assert_eq!(sparse.bytes.len(), DENSE_BYTES);
        assert_eq!(
            (0..REGISTERS).map(|register| sparse.rank(register)).collect::<Vec<u8>>(),
            before
        );
        assert!(!sketch_of(0..3000).is_sparse());
    }

    #[test]
    fn a_union_counts_what_is_in_both_once() {
        let (one, other) = (sketch_of(0..6000), sketch_of(4000..10_000));
        let error = estimate_of(&[&one, &other]) as f64 / 10_000.0 - 1.0;
        assert!(error.abs() < 0.025, "{error}");
        assert_eq!(estimate_of(&[&one, &one]), estimate_of(&[&one]));
    }

    #[test]
    fn nonsense_is_refused() {
        let code = |bytes: &[u8]| Union::new().add(bytes).map_err(|fail| fail.code);
        assert_eq!(code(b""), Err("WRONGTYPE"));
        assert_eq!(code(b"HYLL\x00\x00\x00\x00"), Err("WRONGTYPE"));
        assert_eq!(code(b"SHLL\x03\x00\x00\x00"), Err("INVALIDOBJ"));
        assert_eq!(code(b"SHLL\x02\x00\x00\x00"), Err("INVALIDOBJ"));
        assert_eq!(code(b"SHLL\x01\x00\x00\x00\x00\x00"), Err("INVALIDOBJ"));
        let twice = [&Sketch::empty().bytes[..], &[0, 0, 1], &[0, 0, 1]].concat();
        assert_eq!(code(&twice), Err("INVALIDOBJ"));
        let mut high = sketch_of(0..3000);
        high.bytes[HEADER_BYTES] = 0xff;
        assert_eq!(code(&high.bytes), Err("INVALIDOBJ"));
        assert_eq!(code(&Sketch::empty().bytes), Ok(()));
    }
}
