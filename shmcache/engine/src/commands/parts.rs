//! Looking at elements of a collection from anywhere that can look at entries: the owner, or a lock-free reader.

use super::read::{Busy, Part, View};
use super::Fail;
use crate::compact::Compact;
use crate::layout::Kind;
use crate::owner::collections::root_id;
use crate::owner::large::{Large, Opened};
use crate::owner::Owner;
use crate::parts::{part_key, MAX_NAME_BYTES};
use crate::slots::slot_of;

/// A root may be replaced under a concurrent reader's hands this often before it asks the owner.
pub const TRIES: usize = 8;

/// What a look at the key alone tells.
enum Root<T> {
    Answer(T),
    Large(u64),
}

/// Look for elements: `small` makes the answer from a compact value (or from none), `large` from the parts of these names (None: no such part),
/// in their order. Fails with WRONGTYPE.
pub fn look_for<V: View, T>(
    view: &mut V,
    key: &[u8],
    kind: Kind,
    names: &[&[u8]],
    mut small: impl FnMut(Option<Compact>) -> T,
    mut large: impl FnMut(&[Option<Vec<u8>>]) -> T,
) -> Result<T, Fail> {
    for _ in 0..TRIES {
        let root = view.look(key, Part::All, |seen| match seen {
            None => Ok(Root::Answer(small(None))),
            Some(seen) if seen.kind_code != kind as u8 => Err(Fail::wrong_type()),
            Some(seen) => Ok(match root_id(seen.value) {
                Some(id) => Root::Large(id),
                None => Root::Answer(small(Compact::parse(seen.value))),
            }),
        })??;
        let id = match root {
            Root::Answer(answer) => return Ok(answer),
            Root::Large(id) => id,
        };
        let slot = slot_of(key);
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            found.push(if name.len() > MAX_NAME_BYTES {
                None
            } else {
                view.look(&part_key(slot, id, name), Part::All, |seen| {
                    seen.map(|seen| seen.value.to_vec())
                })?
            });
        }
        // The parts are of the collection that the key has only if it still has it.
        if !V::CONCURRENT || view.look(key, Part::All, |seen| seen.and_then(|seen| root_id(seen.value)))? == Some(id) {
            return Ok(large(&found));
        }
    }
    Err(Busy.into())
}

/// The answer that `small` makes of a compact value (or of none); None if the collection is large: then `large_of` comes next. Fails with WRONGTYPE.
pub fn if_small<V: View, T>(
    view: &mut V,
    key: &[u8],
    kind: Kind,
    small: impl FnOnce(Option<Compact>) -> T,
) -> Result<Option<T>, Fail> {
    view.look(key, Part::All, |seen| match seen {
        None => Ok(Some(small(None))),
        Some(seen) if seen.kind_code != kind as u8 => Err(Fail::wrong_type()),
        Some(seen) if root_id(seen.value).is_some() => Ok(None),
        Some(seen) => Ok(Some(small(Compact::parse(seen.value)))),
    })?
}

/// The large collection of a key, where `if_small` has just seen one: what concerns all of it is known to the owner only.
pub fn large_of<'a, V: View>(view: &'a mut V, key: &[u8], kind: Kind) -> Result<(&'a mut Owner, Large), Fail> {
    let owner = view.owner().ok_or(Busy)?;
    match owner.open(key, kind)? {
        Opened::Large(large) => Ok((owner, large)),
        _ => unreachable!("nothing came between the two looks"),
    }
}
