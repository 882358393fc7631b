//! CHECKSTAMP: whether keys are what they were, for whoever watches them.

use super::number::int_arg;
use super::reply::Sink;
use super::{Args, Fail};
use crate::owner::Owner;

/// OK, or ABORTED if a key's stamp is another. It is no access.
pub fn check(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    if args.len().is_multiple_of(2) {
        return Err(Fail::err("wrong number of arguments for 'checkstamp' command"));
    }
    for pair in args[1..].chunks_exact(2) {
        let stamp = owner.lookup(pair[0]).map_or(0, |entry| owner.stamp(&entry));
        if stamp as i64 != int_arg(pair[1])? {
            return Err(Fail::new("ABORTED", "a watched key has changed"));
        }
    }
    out.ok();
    Ok(())
}
