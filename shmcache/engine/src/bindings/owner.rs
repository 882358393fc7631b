//! `Owner`, and the functions on regions whose owner is gone.

use super::convert::{borrow_fd, to_bytes, PySink};
use super::errors::{self, EngineError};
use crate::commands::batch::Latencies;
use crate::commands::resolve;
use crate::layout::{header, SLOT_COUNT, STATE_RETIRED, STATE_SERVING};
use crate::memory::{object_bytes, OwnerMap, ReaderMap};
use crate::owner::{check_header, ApplyError, Options, Owner, Policy, Refused, MIN_CAPACITY_BYTES};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::time::Duration;

const DEFAULT_LOG_BYTES: u64 = 16 << 20;

#[pyclass(name = "Owner", module = "shmcache._engine")]
struct PyOwner {
    owner: Option<Owner>,
    latencies: Latencies,
}

fn policy(name: &str) -> PyResult<Policy> {
    Policy::from_name(name).ok_or_else(|| {
        let known = Policy::ALL.map(|(name, _)| name).join(", ");
        EngineError::new_err(format!("no eviction policy {name:?}; there are {known}"))
    })
}

fn damaged(what: String) -> PyErr {
    EngineError::new_err(format!("the region contradicts itself: {what}"))
}

fn bitmap_length() -> PyErr {
    EngineError::new_err(format!("a slot bitmap has {} bytes", SLOT_COUNT / 8))
}

/// Slots that a walk concerns: none given, all.
fn scope(slots: Option<&[u8]>) -> PyResult<&[u8]> {
    match slots {
        None => Ok(&[]),
        Some(bitmap) if bitmap.len() == SLOT_COUNT / 8 => Ok(bitmap),
        Some(_) => Err(bitmap_length()),
    }
}

impl PyOwner {
    fn get(&mut self) -> PyResult<&mut Owner> {
        self.owner
            .as_mut()
            .ok_or_else(|| EngineError::new_err("this owner is closed"))
    }

    fn wrap(owner: Owner) -> PyOwner {
        PyOwner {
            owner: Some(owner),
            latencies: Latencies::default(),
        }
    }
}

fn may_prepare(owner: &Owner, token: u64) -> PyResult<()> {
    match (token, owner.prepared()) {
        (0, _) => Err(EngineError::new_err("a token is not 0")),
        (_, 0) => Ok(()),
        _ => Err(EngineError::new_err("a group is prepared already")),
    }
}

#[pymethods]
impl PyOwner {
    #[staticmethod]
    #[pyo3(signature = (data_fd, hints_fd, log_fd, *, memory_bytes, shard = 0, shards = 1, log_bytes = DEFAULT_LOG_BYTES, policy = "noeviction", capacity_bytes = None))]
    #[allow(clippy::too_many_arguments)]
    fn create(
        data_fd: i32,
        hints_fd: i32,
        log_fd: i32,
        memory_bytes: u64,
        shard: u64,
        shards: u64,
        log_bytes: u64,
        policy: &str,
        capacity_bytes: Option<u64>,
    ) -> PyResult<PyOwner> {
        let policy = self::policy(policy)?;
        let capacity_bytes = capacity_bytes.unwrap_or(memory_bytes.saturating_mul(4).max(MIN_CAPACITY_BYTES));
        let options = Options {
            memory_bytes,
            capacity_bytes,
            log_bytes,
            shard,
            shards,
            policy,
        };
        let owner =
            Owner::create(borrow_fd(data_fd)?, borrow_fd(hints_fd)?, borrow_fd(log_fd)?, &options).map_err(errors::own)?;
        Ok(PyOwner::wrap(owner))
    }

    #[staticmethod]
    #[pyo3(signature = (data_fd, hints_fd, log_fd, commit_prepared = false))]
    fn attach(data_fd: i32, hints_fd: i32, log_fd: i32, commit_prepared: bool) -> PyResult<PyOwner> {
        let (data, hints, log) = (borrow_fd(data_fd)?, borrow_fd(hints_fd)?, borrow_fd(log_fd)?);
        // Attaching checks what it costs little to check. What damage still trips over is found by an assertion: nothing that outlives the
        // panic was changed but the region, and that is refused.
        let owner = std::panic::catch_unwind(|| Owner::attach_deciding(data, hints, log, commit_prepared))
            .map_err(|_| EngineError::new_err("the region is damaged: attaching tripped over it"))?
            .map_err(errors::own)?;
        Ok(PyOwner::wrap(owner))
    }

    #[getter]
    fn recovery<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let recovery = self.get()?.recovery.clone();
        let dict = PyDict::new(py);
        dict.set_item("created", recovery.created)?;
        dict.set_item("clean", recovery.clean)?;
        dict.set_item("keys", recovery.keys)?;
        dict.set_item("repaired_buckets", recovery.repaired_buckets)?;
        dict.set_item("redone_records", recovery.redone_records)?;
        dict.set_item("duration_us", recovery.duration_us)?;
        Ok(dict)
    }

    #[getter]
    fn generation(&mut self) -> PyResult<u64> {
        Ok(self.get()?.generation())
    }

    #[pyo3(signature = (payload, flags = 0))]
    fn execute<'py>(&mut self, py: Python<'py>, payload: &[u8], flags: u32) -> PyResult<Bound<'py, PyBytes>> {
        let owner = self
            .owner
            .as_mut()
            .ok_or_else(|| EngineError::new_err("this owner is closed"))?;
        let reply = owner
            .execute(payload, flags, &mut self.latencies)
            .map_err(|malformed| EngineError::new_err(format!("malformed payload: {}", malformed.0)))?;
        Ok(PyBytes::new(py, &reply))
    }

    #[pyo3(signature = (*args))]
    fn command<'py>(&mut self, py: Python<'py>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let owner = self.get()?;
        let copies = args.iter().map(|arg| to_bytes(&arg)).collect::<PyResult<Vec<_>>>()?;
        let args: Vec<&[u8]> = copies.iter().map(Vec::as_slice).collect();
        owner.set_time();
        let spec = resolve(&args).map_err(|fail| errors::fail(py, fail))?;
        let mut sink = PySink::new(py, false);
        owner.run(spec, &args, &mut sink);
        owner.counters.commands += 1;
        owner.publish_gauges();
        sink.finish()
    }

    fn begin_group(&mut self) -> PyResult<()> {
        let owner = self.get()?;
        if owner.in_group() {
            return Err(EngineError::new_err("a group is open already"));
        }
        owner.open_group();
        Ok(())
    }

    fn commit_group(&mut self, py: Python<'_>) -> PyResult<()> {
        let owner = self.get()?;
        owner.commit_group().map_err(|refused| errors::fail(py, refused.into()))?;
        owner.publish_gauges();
        Ok(())
    }

    fn abandon_group(&mut self) -> PyResult<()> {
        let owner = self.get()?;
        owner.abandon_group();
        owner.publish_gauges();
        Ok(())
    }

    #[pyo3(signature = (payload, token, decider, flags = 0))]
    fn prepare<'py>(
        &mut self,
        py: Python<'py>,
        payload: &[u8],
        token: u64,
        decider: u64,
        flags: u32,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let owner = self
            .owner
            .as_mut()
            .ok_or_else(|| EngineError::new_err("this owner is closed"))?;
        may_prepare(owner, token)?;
        if owner.in_group() {
            return Err(EngineError::new_err("a group is open already"));
        }
        let reply = owner
            .prepare(payload, flags, token, decider, &mut self.latencies)
            .map_err(|malformed| EngineError::new_err(format!("malformed payload: {}", malformed.0)))?;
        Ok(PyBytes::new(py, &reply))
    }

    fn prepare_group(&mut self, py: Python<'_>, token: u64, decider: u64) -> PyResult<()> {
        let owner = self.get()?;
        may_prepare(owner, token)?;
        if !owner.in_group() {
            return Err(EngineError::new_err("no group is open"));
        }
        owner
            .prepare_group(token, decider)
            .map_err(|refused| errors::fail(py, refused.into()))
    }

    #[getter]
    fn prepared(&mut self) -> PyResult<u64> {
        Ok(self.get()?.prepared())
    }

    #[getter]
    fn resolved(&mut self) -> PyResult<Option<(u64, bool)>> {
        Ok(self.get()?.resolved)
    }

    #[pyo3(signature = (shards = Vec::new()))]
    fn commit_prepared(&mut self, shards: Vec<u64>) -> PyResult<()> {
        let owner = self.get()?;
        owner.commit_prepared(&shards);
        owner.publish_gauges();
        Ok(())
    }

    fn abandon_prepared(&mut self) -> PyResult<()> {
        let owner = self.get()?;
        owner.abandon_prepared();
        owner.publish_gauges();
        Ok(())
    }

    #[pyo3(signature = (budget_us = 1000))]
    fn tick(&mut self, budget_us: u64) -> PyResult<bool> {
        self.get()?.tick(Duration::from_micros(budget_us)).map_err(damaged)
    }

    #[pyo3(signature = (**options))]
    fn configure(&mut self, options: Option<&Bound<PyDict>>) -> PyResult<()> {
        let owner = self.get()?;
        let Some(options) = options else { return Ok(()) };
        let mut sampling = [None; 3];
        for (name, value) in options {
            let name: String = name.extract()?;
            match name.as_str() {
                "memory_bytes" => owner.set_memory(value.extract()?).map_err(EngineError::new_err)?,
                "policy" => owner.set_policy(policy(&value.extract::<String>()?)?),
                "samples" => sampling[0] = Some(value.extract()?),
                "lfu_log_factor" => sampling[1] = Some(value.extract()?),
                "lfu_decay_ms" => sampling[2] = Some(value.extract()?),
                "epoch" => owner.set_epoch(value.extract()?),
                "tombstone_life_ms" => owner.set_tombstone_life(value.extract()?).map_err(EngineError::new_err)?,
                "replica" => owner.set_replica(value.extract()?),
                "node" => owner.set_node(value.extract()?).map_err(EngineError::new_err)?,
                _ => match owner.compact_limits.by_option(&name) {
                    Some((limit, most)) => {
                        let wanted: usize = value.extract()?;
                        if wanted > most {
                            return Err(EngineError::new_err(format!("{name} is at most {most}")));
                        }
                        *limit = wanted;
                    }
                    None => return Err(EngineError::new_err(format!("no option {name:?}"))),
                },
            }
        }
        owner
            .set_sampling(sampling[0], sampling[1], sampling[2])
            .map_err(EngineError::new_err)
    }

    fn set_slots(&mut self, bitmap: Option<&[u8]>) -> PyResult<()> {
        let slots = match bitmap {
            None => None,
            Some(bitmap) => {
                let bits: [u8; SLOT_COUNT / 8] = bitmap.try_into().map_err(|_| bitmap_length())?;
                Some(Box::new(bits))
            }
        };
        self.get()?.set_slots(slots);
        Ok(())
    }

    fn set_primary(&mut self, address: &str) -> PyResult<()> {
        self.get()?.set_primary(address).map_err(EngineError::new_err)
    }

    #[pyo3(signature = (cursor, slots, budget_us))]
    fn mark_stale(&mut self, cursor: u64, slots: Option<&[u8]>, budget_us: u64) -> PyResult<u64> {
        let scope = scope(slots)?;
        Ok(self.get()?.mark_stale(cursor, scope, Duration::from_micros(budget_us)))
    }

    #[pyo3(signature = (cursor, slots, budget_us))]
    fn sweep_stale(&mut self, cursor: u64, slots: Option<&[u8]>, budget_us: u64) -> PyResult<(u64, u64)> {
        let scope = scope(slots)?;
        Ok(self.get()?.sweep_stale(cursor, scope, Duration::from_micros(budget_us)))
    }

    #[getter]
    fn log_position(&mut self) -> PyResult<u64> {
        Ok(self.get()?.log_position())
    }

    #[getter]
    fn last_stamp(&mut self) -> PyResult<u64> {
        Ok(self.get()?.last_stamp())
    }

    fn apply(&mut self, records: &[u8]) -> PyResult<u64> {
        self.get()?.apply(records).map_err(|error| match error {
            ApplyError::Corrupt(at, what) => EngineError::new_err(format!("the record at byte {at} is damaged: {what}")),
            ApplyError::Refused(Refused::NoSpace) => {
                errors::NoSpace::new_err("a record cannot be applied: NoSpace, the system has no memory left for the region")
            }
            ApplyError::Refused(refused) => EngineError::new_err(format!("a record cannot be applied: {refused:?}")),
            ApplyError::Reference => EngineError::new_err("a set_ref record has no value: fetch it from its region first"),
        })
    }

    fn stats<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let owner = self.get()?;
        let stats = owner.stats();
        let counters = &owner.counters;
        let dict = PyDict::new(py);
        for (name, value) in [
            ("keys", stats.keys),
            ("tombstones", stats.tombstones),
            ("parts", stats.parts),
            ("tombstones_dropped", counters.tombstones_dropped),
            ("flush_marks", stats.flush_marks),
            ("flush_marks_dropped", stats.flush_marks_dropped),
            ("used_bytes", stats.used_bytes),
            ("memory_bytes", stats.memory_bytes),
            ("heap_used_bytes", stats.heap_used_bytes),
            ("heap_committed_bytes", stats.heap_committed_bytes),
            ("heap_free_page_bytes", stats.heap_free_page_bytes),
            ("index_bytes", stats.index_bytes),
            ("hints_bytes", stats.hints_bytes),
            ("buckets", stats.buckets),
            ("log_bytes", stats.log_bytes),
            ("log_head", stats.log_head),
            ("log_seq", stats.log_seq),
            ("last_stamp", stats.last_stamp),
            ("hits", counters.hits + stats.clients.hits),
            ("misses", counters.misses + stats.clients.misses),
            ("local_hits", stats.clients.hits),
            ("local_misses", stats.clients.misses),
            ("local_retries", stats.clients.retries),
            ("clients", stats.clients.living),
            ("expired", counters.expired),
            ("evicted", counters.evicted),
            ("commands", counters.commands),
            ("batches", counters.batches),
            ("errors", counters.errors),
            ("compactions", counters.compactions),
            ("generation", owner.generation()),
            ("epoch", owner.epoch() as u64),
            ("node", owner.node() as u64),
            ("replica", owner.is_replica() as u64),
            ("samples", owner.samples()),
            ("rebuilding", owner.is_rebuilding() as u64),
        ] {
            dict.set_item(name, value)?;
        }
        for (name, limit) in owner.compact_limits.options() {
            dict.set_item(name, limit)?;
        }
        let (shard, shards) = owner.shard();
        dict.set_item("shard", shard)?;
        dict.set_item("shards", shards)?;
        dict.set_item("policy", owner.policy().name())?;
        let tailers = stats
            .tailers
            .iter()
            .map(|(name, pid, position, seen_ms)| {
                let tailer = PyDict::new(py);
                tailer.set_item("name", name)?;
                tailer.set_item("pid", pid)?;
                tailer.set_item("position", position)?;
                tailer.set_item("lag_bytes", stats.log_head.saturating_sub(*position))?;
                tailer.set_item("seen_ms", seen_ms)?;
                Ok(tailer)
            })
            .collect::<PyResult<Vec<_>>>()?;
        dict.set_item("tailers", tailers)?;
        Ok(dict)
    }

    fn waiting_tailers(&mut self) -> PyResult<Vec<String>> {
        Ok(self.get()?.waiting_tailers())
    }

    fn latencies<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let families = PyDict::new(py);
        for (family, numbers) in self.latencies.summary() {
            let dict = PyDict::new(py);
            for (name, value) in ["count", "p50_ns", "p99_ns", "p999_ns", "max_ns"].iter().zip(numbers) {
                dict.set_item(name, value)?;
            }
            families.set_item(family, dict)?;
        }
        Ok(families)
    }

    fn digest(&mut self) -> PyResult<u64> {
        Ok(self.get()?.digest())
    }

    fn verify<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let keys = self.get()?.verify().map_err(damaged)?;
        let dict = PyDict::new(py);
        dict.set_item("keys", keys)?;
        Ok(dict)
    }

    fn retire(&mut self) -> PyResult<()> {
        self.get()?.retire();
        Ok(())
    }

    fn close(&mut self) -> PyResult<()> {
        self.get()?.close();
        self.owner = None;
        Ok(())
    }
}

#[pyfunction]
fn retire_region(data_fd: i32) -> PyResult<()> {
    let fd = borrow_fd(data_fd)?;
    let bytes = object_bytes(fd).map_err(|error| EngineError::new_err(error.to_string()))?;
    if bytes < header::BYTES {
        return Err(errors::LayoutMismatch::new_err(format!("a data region of {bytes} bytes")));
    }
    let mut map = OwnerMap::new(fd, bytes).map_err(|error| EngineError::new_err(error.to_string()))?;
    check_header(|at| map.load(at), bytes).map_err(errors::own)?;
    map.publish(header::STATE, STATE_RETIRED);
    Ok(())
}

#[pyfunction]
fn region_info(py: Python<'_>, data_fd: i32) -> PyResult<Bound<'_, PyDict>> {
    let fd = borrow_fd(data_fd)?;
    let bytes = object_bytes(fd).map_err(|error| EngineError::new_err(error.to_string()))?;
    if bytes < header::BYTES {
        return Err(errors::LayoutMismatch::new_err(format!("a data region of {bytes} bytes")));
    }
    let map = ReaderMap::new(fd, bytes).map_err(|error| EngineError::new_err(error.to_string()))?;
    check_header(|at| map.load(at), bytes).map_err(errors::own)?;
    header_dict(py, |at| map.load(at))
}

/// The header of a data region as a dict.
pub fn header_dict(py: Python<'_>, load: impl Fn(u64) -> u64) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (name, field) in [
        ("layout_version", header::LAYOUT_VERSION),
        ("region_bytes", header::REGION_BYTES),
        ("shard", header::SHARD),
        ("shards", header::SHARDS),
        ("created_ms", header::CREATED_MS),
        ("generation", header::GENERATION),
        ("owner_pid", header::OWNER_PID),
        ("heartbeat_ms", header::HEARTBEAT_MS),
        ("keys", header::KEYS),
        ("used_bytes", header::USED_BYTES),
        ("memory_bytes", header::MEMORY_BYTES),
        ("epoch", header::EPOCH),
        ("last_stamp", header::LAST_STAMP),
    ] {
        dict.set_item(name, load(field))?;
    }
    dict.set_item("clean", load(header::CLEAN) == 1)?;
    dict.set_item("policy", Policy::from_code(load(header::POLICY)).name())?;
    let state = match load(header::STATE) {
        STATE_SERVING => "serving",
        STATE_RETIRED => "retired",
        _ => "new",
    };
    dict.set_item("state", state)?;
    Ok(dict)
}

pub fn register(module: &Bound<PyModule>) -> PyResult<()> {
    module.add_class::<PyOwner>()?;
    module.add_function(wrap_pyfunction!(retire_region, module)?)?;
    module.add_function(wrap_pyfunction!(region_info, module)?)
}
