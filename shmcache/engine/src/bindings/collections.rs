//! One field, or one member, looked for by a local reader: the hot reads of collections.

use super::convert::{bytes_of, value_object};
use super::errors;
use super::reader::PyReader;
use crate::commands::parts::TRIES;
use crate::commands::Fail;
use crate::compact::Compact;
use crate::layout::Kind;
use crate::owner::collections::root_id;
use crate::owner::large::score_of;
use crate::parts::{part_key, MAX_NAME_BYTES};
use crate::reader::{ShardReader, Unread};
use crate::slots::slot_of;
use pyo3::prelude::*;
use smallvec::SmallVec;

/// A copy of a value; most compact ones need no allocation.
type Copy = SmallVec<[u8; 512]>;

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

/// What there is under a name: in a compact collection, or as a part's value.
enum Seen<'a> {
    Compact(Compact<'a>),
    Part(&'a [u8]),
}

impl PyReader {
    /// What `take` makes of a name in a collection of this kind.
    #[inline]
    fn look<T>(
        &self,
        py: Python,
        (key, name): (&Bound<PyAny>, &Bound<PyAny>),
        kind: Kind,
        take: impl Fn(&[u8], Seen) -> Option<T>,
    ) -> PyResult<Option<T>> {
        let mut copy = Copy::new();
        let mut look =
            |key: &[u8], name: &[u8]| match find(self.shard_of(key), key, kind, name, &mut copy).map_err(errors::unread)? {
                Found::Wrong => Err(errors::fail(py, Fail::wrong_type())),
                Found::Nothing => Ok(None),
                Found::Compact => Ok(Compact::parse(&copy).and_then(|compact| take(name, Seen::Compact(compact)))),
                Found::Part => Ok(take(name, Seen::Part(&copy))),
            };
        bytes_of(key, |key| bytes_of(name, |name| look(key, name)))??
    }

    #[inline]
    pub(super) fn find_field<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        field: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let object = |value: &[u8]| value_object(py, value, self.decode);
        let found = self.look(py, (key, field), Kind::Hash, |field, seen| match seen {
            Seen::Compact(hash) => hash.field(field).map(object),
            Seen::Part(value) => Some(object(value)),
        });
        found?.transpose()
    }

    #[inline]
    pub(super) fn find_member(&self, py: Python, key: &Bound<PyAny>, member: &Bound<PyAny>) -> PyResult<bool> {
        let found = self.look(py, (key, member), Kind::Set, |member, seen| match seen {
            Seen::Compact(set) => set.has_member(member).then_some(()),
            Seen::Part(_) => Some(()),
        });
        Ok(found?.is_some())
    }

    #[inline]
    pub(super) fn find_score(&self, py: Python, key: &Bound<PyAny>, member: &Bound<PyAny>) -> PyResult<Option<f64>> {
        self.look(py, (key, member), Kind::Zset, |member, seen| match seen {
            Seen::Compact(zset) => zset.score(member),
            Seen::Part(value) => Some(score_of(value)),
        })
    }
}
