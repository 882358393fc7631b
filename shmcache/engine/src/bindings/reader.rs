//! `Reader`: all shards of an instance, lock-free. Its `get` is the hottest path of the project.

use super::convert::{borrow_fd, bytes_of, slot_bitmap, slot_table, to_bytes, value_object, PySink};
use super::errors::{self, EngineError};
use super::local::{one_slot, Local, ShardWalk};
use super::owner::header_dict;
use crate::commands::read::Busy;
use crate::commands::scan;
use crate::commands::table;
use crate::commands::{glob, read_local, reply::Sink, resolve, Fail, ASK_OWNER};
use crate::layout::Kind;
use crate::memory::ReaderMap;
use crate::reader::digest::SlotEntry;
use crate::reader::{Glimpse, ShardReader, Unread};
use crate::resp::{next_command, RespSink};
use crate::slots::slot_of;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

/// How many keys before its turn an entry of MGET is fetched into the processor's cache.
const ENTRIES_AHEAD: usize = 4;
/// Commands whose replies are the same in both protocols, nil excepted.
const SAME_IN_RESP3: [&str; 20] = [
    "GET",
    "MGET",
    "EXISTS",
    "STRLEN",
    "TTL",
    "PTTL",
    "TYPE",
    "HGET",
    "HMGET",
    "HEXISTS",
    "HLEN",
    "HSTRLEN",
    "HKEYS",
    "HVALS",
    "SISMEMBER",
    "SMISMEMBER",
    "SCARD",
    "ZCARD",
    "ZCOUNT",
    "ZLEXCOUNT",
];

#[pyclass(name = "Reader", module = "shmcache._engine", frozen)]
pub struct PyReader {
    pub(super) shards: Vec<ShardReader>,
    slots: Vec<u16>,
    pub(super) decode: bool,
}

/// Key, stamp, node, digest.
type SlotRow<'py> = (Bound<'py, PyBytes>, u64, u16, u64);

impl PyReader {
    pub fn shard(&self, shard: usize) -> PyResult<&ShardReader> {
        self.shards
            .get(shard)
            .ok_or_else(|| EngineError::new_err(format!("there is no shard {shard}")))
    }

    #[inline]
    pub(super) fn shard_of(&self, key: &[u8]) -> &ShardReader {
        // One shard needs no hash slot. `new` checked that the table names existing shards.
        match self.shards.as_slice() {
            [only] => only,
            shards => &shards[self.slots[slot_of(key) as usize] as usize],
        }
    }

    #[inline]
    fn read_value<'py>(&self, py: Python<'py>, key: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
        let shard = self.shard_of(key);
        self.read_hashed(py, shard, shard.hash(key), key)
    }

    #[inline]
    fn read_hashed<'py>(
        &self,
        py: Python<'py>,
        shard: &ShardReader,
        hash: u64,
        key: &[u8],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = if self.decode {
            let text = shard.read_hashed(hash, key, |map, glimpse| (glimpse.meta.kind_code(), copy_value(map, glimpse)));
            match text.map_err(errors::unread)? {
                Some((kind, data)) => Some((kind, value_object(py, &data, true)?)),
                None => None,
            }
        } else {
            let bytes = shard.read_hashed(hash, key, |map, glimpse| {
                let length = glimpse.meta.value_bytes() as usize;
                let bytes = PyBytes::new_with(py, length, |buffer| {
                    map.read(glimpse.offset.0 + glimpse.meta.value_at(), buffer);
                    Ok(())
                });
                (glimpse.meta.kind_code(), bytes)
            });
            match bytes.map_err(errors::unread)? {
                Some((kind, bytes)) => Some((kind, bytes?.into_any())),
                None => None,
            }
        };
        shard.count(found.is_some());
        match found {
            None => Ok(None),
            Some((kind, value)) if kind == Kind::String as u8 => Ok(Some(value)),
            Some(_) => Err(errors::fail(py, Fail::wrong_type())),
        }
    }
}

fn copy_value(map: &ReaderMap, glimpse: Glimpse) -> Vec<u8> {
    let mut data = vec![0; glimpse.meta.value_bytes() as usize];
    map.read(glimpse.offset.0 + glimpse.meta.value_at(), &mut data);
    data
}

#[pymethods]
impl PyReader {
    #[new]
    #[pyo3(signature = (shards, slots, decode = false))]
    fn new(shards: Vec<(i32, i32)>, slots: &[u8], decode: bool) -> PyResult<PyReader> {
        let slots = slot_table(slots, shards.len())?;
        let shards = shards
            .into_iter()
            .map(|(data, hints)| ShardReader::open(borrow_fd(data)?, borrow_fd(hints)?).map_err(errors::own))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(PyReader { shards, slots, decode })
    }

    #[pyo3(signature = (key, /))]
    fn get<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        bytes_of(key, |key| self.read_value(py, key))?
    }

    #[pyo3(signature = (key, field, /))]
    fn hget<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
        field: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.find_field(py, key, field)
    }

    #[pyo3(signature = (key, member, /))]
    fn zscore(&self, py: Python, key: &Bound<PyAny>, member: &Bound<PyAny>) -> PyResult<Option<f64>> {
        self.find_score(py, key, member)
    }

    #[pyo3(signature = (key, member, /))]
    fn sismember<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>, member: &Bound<'py, PyAny>) -> PyResult<u8> {
        Ok(self.find_member(py, key, member)? as u8)
    }

    #[pyo3(signature = (keys, /))]
    fn mget<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        // The list of references keeps the keys alive whatever runs while values are made.
        let keys: Vec<Bound<PyAny>> = match keys.cast_exact::<PyList>() {
            Ok(list) => list.iter().collect(),
            Err(_) => keys.try_iter()?.collect::<PyResult<_>>()?,
        };
        let mut hashed = Vec::with_capacity(keys.len());
        for key in &keys {
            hashed.push(bytes_of(key, |key| {
                let shard = self.shard_of(key);
                let hash = shard.hash(key);
                shard.prefetch_bucket(hash);
                (shard, hash)
            })?);
        }
        let mut values = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            if let Some((shard, hash)) = hashed.get(index + ENTRIES_AHEAD) {
                shard.prefetch_entry(*hash);
            }
            let (shard, hash) = hashed[index];
            let value = match bytes_of(key, |key| self.read_hashed(py, shard, hash, key))? {
                Ok(value) => value,
                // As in Redis: what is no string is no value here.
                Err(error) if error.is_instance_of::<errors::CommandError>(py) => None,
                Err(error) => return Err(error),
            };
            values.push(value);
        }
        PyList::new(py, values)
    }

    #[pyo3(signature = (key, /))]
    fn get_stamped<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyAny>, u64)>> {
        bytes_of(key, |key| {
            let shard = self.shard_of(key);
            let found = shard.read(key, |map, glimpse| {
                (glimpse.meta.kind_code(), map.load(glimpse.offset.0), copy_value(map, glimpse))
            });
            let found = found.map_err(errors::unread)?;
            shard.count(found.is_some());
            match found {
                None => Ok(None),
                Some((kind, stamp, data)) if kind == Kind::String as u8 => {
                    Ok(Some((value_object(py, &data, self.decode)?, stamp)))
                }
                Some(_) => Err(errors::fail(py, Fail::wrong_type())),
            }
        })?
    }

    #[pyo3(signature = (*args))]
    fn command<'py>(&self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let copies = args.iter().map(|arg| to_bytes(&arg)).collect::<PyResult<Vec<_>>>()?;
        let args: Vec<&[u8]> = copies.iter().map(Vec::as_slice).collect();
        let spec = resolve(&args).map_err(|fail| errors::fail(py, fail))?;
        let mut sink = PySink::new(py, self.decode);
        let mut local = Local::new(self, Vec::new());
        let result = if spec.flags & table::LOCAL == 0 {
            return Err(EngineError::new_err(format!(
                "{} is not answered from shared memory",
                spec.name
            )));
        } else if spec.has_keys() {
            one_slot(spec, &args).map_err(|fail| errors::fail(py, fail))?;
            read_local(&mut local, spec, &args, &mut sink)
        } else {
            local.over_all_shards(spec.command, &args, &mut sink)
        };
        match (local.failed, result) {
            (Some(unread), _) => Err(errors::unread(unread)),
            (None, Err(fail)) if fail.code == ASK_OWNER => Err(errors::unread(Unread::Busy)),
            (None, Err(fail)) => Err(errors::fail(py, fail)),
            (None, Ok(())) => sink.finish(),
        }
    }

    /// Answer the reads at the front of what a Redis client sent: (replies, where they end, how many).
    #[pyo3(signature = (data, at, resp3, max_bytes))]
    fn answer<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        at: usize,
        resp3: bool,
        max_bytes: usize,
    ) -> (Bound<'py, PyBytes>, usize, usize) {
        let mut sink = RespSink { out: Vec::new(), resp3 };
        let mut args = Vec::new();
        let (mut place, mut count) = (at, 0);
        let mut scratch = Vec::new();
        while sink.out.len() < max_bytes {
            let Some(end) = next_command(data, place, &mut args) else {
                break;
            };
            let Ok(spec) = resolve(&args) else { break };
            if spec.flags & table::LOCAL == 0
                || !spec.has_keys()
                || (resp3 && !SAME_IN_RESP3.contains(&spec.name))
                || one_slot(spec, &args).is_err()
            {
                break;
            }
            let mark = sink.mark();
            let mut local = Local::new(self, std::mem::take(&mut scratch));
            let result = read_local(&mut local, spec, &args, &mut sink);
            let failed = local.failed.is_some() || result.as_ref().is_err_and(|fail| fail.code == ASK_OWNER);
            scratch = local.scratch;
            if failed {
                // The caller asks the owner, or maps anew.
                sink.rewind(mark);
                break;
            }
            if let Err(fail) = result {
                sink.rewind(mark);
                sink.error(fail.code, &fail.message);
            }
            place = end;
            count += 1;
        }
        (PyBytes::new(py, &sink.out), place, count)
    }

    #[pyo3(signature = (shard, cursor, r#match, count, kind))]
    fn scan<'py>(
        &self,
        py: Python<'py>,
        shard: usize,
        cursor: u64,
        r#match: Option<&[u8]>,
        count: u64,
        kind: Option<&str>,
    ) -> PyResult<(u64, Bound<'py, PyList>)> {
        let reader = self.shard(shard)?;
        let mut walk = ShardWalk::new(reader);
        let step = scan::step(&mut walk, cursor, count, |key, code| {
            r#match.is_none_or(|pattern| glob::matches(pattern, key))
                && kind.is_none_or(|wanted| Kind::from_code(code).is_some_and(|kind| wanted.eq_ignore_ascii_case(kind.name())))
        });
        let (next, keys) = step.map_err(|Busy| errors::unread(walk.failed.unwrap_or(Unread::Busy)))?;
        let keys = keys
            .iter()
            .map(|key| value_object(py, key, self.decode))
            .collect::<PyResult<Vec<_>>>()?;
        Ok((next, PyList::new(py, keys)?))
    }

    fn sync_slice<'py>(
        &self,
        py: Python<'py>,
        shard: usize,
        cursor: u64,
        max_bytes: usize,
    ) -> PyResult<(u64, u64, Bound<'py, PyBytes>)> {
        let reader = self.shard(shard)?;
        let slice = py.detach(|| reader.copy_slice(cursor, max_bytes)).map_err(errors::unread)?;
        Ok((slice.next_cursor, slice.applied_position, PyBytes::new(py, &slice.records)))
    }

    fn flush_records<'py>(&self, py: Python<'py>, shard: usize) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.shard(shard)?.flush_records()))
    }

    fn slot_digests<'py>(&self, py: Python<'py>, shard: usize, now_ms: u64) -> PyResult<Bound<'py, PyBytes>> {
        let reader = self.shard(shard)?;
        let digests = py.detach(|| reader.slot_digests(now_ms)).map_err(errors::unread)?;
        let bytes: Vec<u8> = digests.into_iter().flat_map(u64::to_le_bytes).collect();
        Ok(PyBytes::new(py, &bytes))
    }

    fn slot_entries<'py>(
        &self,
        py: Python<'py>,
        shard: usize,
        slots: &[u8],
        now_ms: u64,
        max_entries: usize,
    ) -> PyResult<Vec<SlotRow<'py>>> {
        let reader = self.shard(shard)?;
        let slots = slot_bitmap(slots)?;
        let entries = py
            .detach(|| reader.slot_entries(slots, now_ms, max_entries))
            .map_err(|error| errors::unlisted(error, max_entries))?;
        let row = |entry: SlotEntry| (PyBytes::new(py, &entry.key), entry.stamp, entry.node, entry.digest);
        Ok(entries.into_iter().map(row).collect())
    }

    fn shard_info<'py>(&self, py: Python<'py>, shard: usize) -> PyResult<Bound<'py, PyDict>> {
        let reader = self.shard(shard)?;
        header_dict(py, |field| reader.header(field))
    }
}

pub fn register(module: &Bound<PyModule>) -> PyResult<()> {
    module.add_class::<PyReader>()
}
