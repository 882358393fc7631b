//! MEMORY USAGE: what a key takes.

use super::number::int_arg;
use super::reply::Sink;
use super::{Args, Fail};
use crate::layout::{Meta, Offset, WORD};
use crate::owner::large::{Large, Opened};
use crate::owner::Owner;

/// Parts that are looked at if nobody says how many.
const SAMPLES: usize = 5;

pub fn run(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    if !args[1].eq_ignore_ascii_case(b"usage") {
        let shown = String::from_utf8_lossy(&args[1][..args[1].len().min(128)]);
        return Err(Fail::err(format!("unknown subcommand '{shown}'. Try MEMORY HELP.")));
    }
    if args.len() < 3 {
        return Err(Fail::err("wrong number of arguments for 'memory|usage' command"));
    }
    let mut samples = SAMPLES;
    let mut options = args[3..].iter();
    while let Some(option) = options.next() {
        let value = options
            .next()
            .filter(|_| option.eq_ignore_ascii_case(b"samples"))
            .ok_or_else(Fail::syntax)?;
        samples = match usize::try_from(int_arg(value)?).map_err(|_| Fail::syntax())? {
            0 => usize::MAX,
            some => some,
        };
    }
    let Some(entry) = owner.lookup(args[2]) else {
        out.nil();
        return Ok(());
    };
    let kind = entry.meta.kind();
    let mut bytes = owner.footprint(entry.offset);
    if kind.is_collection() {
        if let Opened::Large(large) = owner.opened(args[2], kind, entry) {
            bytes += parts_bytes(owner, &large, samples);
        }
    }
    out.int(bytes as i64);
    Ok(())
}

/// Exact if all parts are samples, else the samples' mean times the number of parts. Samples lie at even distances.
fn parts_bytes(owner: &mut Owner, large: &Large, samples: usize) -> u64 {
    let length = owner.length(large);
    let samples = samples.min(length);
    let order = owner.known_order(large);
    let mut sum = 0;
    if samples == length {
        sum = order.iter().map(|item| owner.footprint(Offset(item.at))).sum();
    } else {
        for number in 0..samples {
            let rank = number as u128 * length as u128 / samples as u128;
            sum += order
                .get(order.at_rank(rank as usize))
                .map_or(0, |item| owner.footprint(Offset(item.at)));
        }
    }
    (sum as u128 * length as u128 / samples.max(1) as u128) as u64
}

impl Owner {
    /// Bytes that an entry takes in the heap and in the index.
    fn footprint(&self, offset: Offset) -> u64 {
        let meta: Meta = self.meta_of(offset);
        crate::heap::Heap::footprint(meta.entry_bytes()) + WORD
    }
}
