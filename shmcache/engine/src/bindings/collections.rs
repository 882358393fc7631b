//! One field, or one member, looked for by a local reader: the hot reads of collections.

use super::convert::{bytes_of, value_object};
use super::errors;
use super::reader::PyReader;
use crate::commands::Fail;
use crate::compact::Compact;
use crate::layout::Kind;
use crate::owner::collections::root_id;
use crate::parts::{part_key, MAX_NAME_BYTES};
use crate::reader::{ShardReader, Unread};
use crate::slots::slot_of;
use pyo3::prelude::*;
use smallvec::SmallVec;

/// A copy of a value; most compact ones need no allocation.
type Copy = SmallVec<[u8; 512]>;

/// A root may be replaced under a reader's hands this often before the owner is asked.
const TRIES: usize = 8;

enum Found {
    /// The key has another kind of value.
    Wrong,
    Nothing,
    /// The copy is a compact collection.
    Compact,
    /// The collection is large, and the copy is the part's value.
    Part,
}

/// The entry's value into `copy`; its kind, if there is one.
#[inline]
fn copy_entry(shard: &ShardReader, hash: u64, key: &[u8], copy: &mut Copy) -> Result<Option<u8>, Unread> {
    shard.read_hashed(hash, key, |map, glimpse| {
        copy.resize(glimpse.meta.value_bytes() as usize, 0);
        map.read(glimpse.offset.0 + glimpse.meta.value_at(), copy);
        glimpse.meta.kind_code()
    })
}

#[inline]
fn find(shard: &ShardReader, key: &[u8], kind: Kind, name: &[u8], copy: &mut Copy) -> Result<Found, Unread> {
    let hash = shard.hash(key);
    for _ in 0..TRIES {
        let found = copy_entry(shard, hash, key, copy)?;
        shard.count(found.is_some());
        match found {
            None => return Ok(Found::Nothing),
            Some(code) if code != kind as u8 => return Ok(Found::Wrong),
            Some(_) => {}
        }
        let Some(id) = root_id(copy) else {
            return Ok(Found::Compact);
        };
        let mut there = false;
        if name.len() <= MAX_NAME_BYTES {
            let part = part_key(slot_of(key), id, name);
            there = copy_entry(shard, shard.hash(&part), &part, copy)?.is_some();
        }
        // The part is of the collection that the key has only if it still has it.
        let mut root = Copy::new();
        copy_entry(shard, hash, key, &mut root)?;
        if root_id(&root) == Some(id) {
            return Ok(if there { Found::Part } else { Found::Nothing });
        }
    }
    Err(Unread::Busy)
}

impl PyReader {
    #[inline]
    pub(super) fn find_field<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        field: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut copy = Copy::new();
        let mut look = |key: &[u8], field: &[u8]| {
            let found = find(self.shard_of(key), key, Kind::Hash, field, &mut copy).map_err(errors::unread)?;
            let value = match found {
                Found::Wrong => return Err(errors::fail(py, Fail::wrong_type())),
                Found::Nothing => None,
                Found::Compact => Compact::parse(&copy).and_then(|hash| hash.field(field)),
                Found::Part => Some(&copy[..]),
            };
            value.map(|value| value_object(py, value, self.decode)).transpose()
        };
        bytes_of(key, |key| bytes_of(field, |field| look(key, field)))??
    }

    #[inline]
    pub(super) fn find_member<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>, member: &Bound<'py, PyAny>) -> PyResult<bool> {
        let mut copy = Copy::new();
        let mut look = |key: &[u8], member: &[u8]| {
            let found = find(self.shard_of(key), key, Kind::Set, member, &mut copy).map_err(errors::unread)?;
            match found {
                Found::Wrong => Err(errors::fail(py, Fail::wrong_type())),
                Found::Nothing => Ok(false),
                Found::Compact => Ok(Compact::parse(&copy).is_some_and(|set| set.has_member(member))),
                Found::Part => Ok(true),
            }
        };
        bytes_of(key, |key| bytes_of(member, |member| look(key, member)))??
    }
}
