//! `LogTailer`, and what is made of the records that it reads.

use super::convert::{borrow_fd, slot_table};
use super::errors::{self, EngineError};
use super::reader::PyReader;
use crate::commands::events::EVENTS;
use crate::layout::SLOT_COUNT;
use crate::log::record::{records, Effect};
use crate::log::{split, LogTailer};
use crate::parts::PREFIX;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

#[pyclass(name = "LogTailer", module = "shmcache._engine")]
struct PyLogTailer {
    tailer: Option<LogTailer>,
    buffer: Vec<u8>,
}

impl PyLogTailer {
    fn get(&mut self) -> PyResult<&mut LogTailer> {
        self.tailer
            .as_mut()
            .ok_or_else(|| EngineError::new_err("this tailer is closed"))
    }
}

#[pymethods]
impl PyLogTailer {
    #[new]
    #[pyo3(signature = (log_fd, name, position = None))]
    fn new(log_fd: i32, name: &str, position: Option<u64>) -> PyResult<PyLogTailer> {
        let tailer = LogTailer::register(borrow_fd(log_fd)?, name, position).map_err(errors::tail)?;
        Ok(PyLogTailer {
            tailer: Some(tailer),
            buffer: Vec::new(),
        })
    }

    #[getter]
    fn position(&mut self) -> PyResult<u64> {
        Ok(self.get()?.position)
    }

    #[getter]
    fn lag_bytes(&mut self) -> PyResult<u64> {
        Ok(self.get()?.lag_bytes())
    }

    #[getter]
    fn head_seq(&mut self) -> PyResult<u64> {
        Ok(self.get()?.head_seq())
    }

    #[getter]
    fn first_position(&mut self) -> PyResult<u64> {
        Ok(self.get()?.first_position())
    }

    #[pyo3(signature = (max_bytes = 1 << 20))]
    fn poll<'py>(&mut self, py: Python<'py>, max_bytes: usize) -> PyResult<Bound<'py, PyBytes>> {
        let tailer = self
            .tailer
            .as_mut()
            .ok_or_else(|| EngineError::new_err("this tailer is closed"))?;
        self.buffer.clear();
        tailer.poll(max_bytes, &mut self.buffer).map_err(errors::tail)?;
        Ok(PyBytes::new(py, &self.buffer))
    }

    #[pyo3(signature = (max_bytes = 1 << 20, reader = None, shard = 0))]
    fn poll_frame<'py>(
        &mut self,
        py: Python<'py>,
        max_bytes: usize,
        reader: Option<&Bound<'py, PyReader>>,
        shard: usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let reader = reader.map(|reader| reader.get().shard(shard)).transpose()?;
        let tailer = self.get()?;
        let frame = py.detach(|| tailer.poll_frame(max_bytes, reader)).map_err(errors::frame)?;
        let Some(frame) = frame else { return Ok(None) };
        let row = py.import("shmcache._engine")?.getattr("LogFrame")?;
        let records = PyBytes::new(py, &frame.records);
        let (from, to) = (frame.from, frame.to);
        row.call1((
            from,
            to,
            frame.first_seq,
            frame.last_seq,
            frame.last_stamp,
            frame.count,
            records,
        ))
        .map(Some)
    }

    fn prepare_wait(&mut self) -> PyResult<bool> {
        Ok(self.get()?.prepare_wait())
    }

    fn cancel_wait(&mut self) -> PyResult<()> {
        self.get()?.cancel_wait();
        Ok(())
    }

    fn resume_at_oldest(&mut self) -> PyResult<u64> {
        Ok(self.get()?.resume_at_oldest())
    }

    fn close(&mut self) {
        self.tailer = None;
    }
}

#[pyfunction]
fn decode_records<'py>(py: Python<'py>, records: &[u8]) -> PyResult<Bound<'py, PyList>> {
    let row = py.import("shmcache._engine")?.getattr("LogRecord")?;
    let list = PyList::empty(py);
    for item in self::records(records) {
        let (record, _) = item.map_err(damaged)?;
        let value = matches!(record.effect, Effect::Set | Effect::Flush).then(|| PyBytes::new(py, record.value));
        let key = PyBytes::new(py, record.key);
        list.append(row.call1((
            record.seq,
            record.stamp,
            record.epoch,
            record.node,
            record.effect.name(),
            key,
            value,
            record.deadline,
            record.more,
            record.kind.name_in_log(),
            EVENTS.get(record.event as usize).map_or("", |event| event.1),
        ))?)?;
    }
    Ok(list)
}

/// What `decode_changes` says of a record.
const OTHER: u8 = 0;
const WRITTEN: u8 = 1;
const FLUSHED: u8 = 2;

#[pyfunction]
fn decode_changes<'py>(py: Python<'py>, records: &[u8]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for item in self::records(records) {
        let (record, _) = item.map_err(damaged)?;
        if record.key.starts_with(&PREFIX) {
            continue;
        }
        let what = match record.effect {
            Effect::Set | Effect::SetRef | Effect::Changed => WRITTEN,
            Effect::Flush => FLUSHED,
            _ => OTHER,
        };
        list.append((what, PyBytes::new(py, record.key), record.stamp))?;
    }
    Ok(list)
}

fn damaged((at, what): (usize, &'static str)) -> PyErr {
    EngineError::new_err(format!("the record at byte {at} is damaged: {what}"))
}

#[pyfunction]
#[pyo3(signature = (records, slots, shards, drop_node = 0))]
fn split_records<'py>(
    py: Python<'py>,
    records: Bound<'py, PyBytes>,
    slots: &[u8],
    shards: usize,
    drop_node: u16,
) -> PyResult<Bound<'py, PyList>> {
    if shards == 0 || shards > SLOT_COUNT {
        return Err(EngineError::new_err(format!(
            "records cannot be divided among {shards} shards"
        )));
    }
    let slots = slot_table(slots, shards)?;
    let data = records.as_bytes();
    if shards == 1 && drop_node == 0 {
        py.detach(|| split::check(data)).map_err(damaged)?;
        return PyList::new(py, [records]);
    }
    let parts = py.detach(|| split::split(data, &slots, shards, drop_node)).map_err(damaged)?;
    PyList::new(py, parts.iter().map(|part| PyBytes::new(py, part)))
}

pub fn register(module: &Bound<PyModule>) -> PyResult<()> {
    let namedtuple = module.py().import("collections")?.getattr("namedtuple")?;
    let record = [
        "seq",
        "stamp",
        "epoch",
        "node",
        "kind",
        "key",
        "value",
        "expiry_ms",
        "more",
        "type",
        "event",
    ]
    .as_slice();
    let frame = [
        "from_position",
        "to_position",
        "first_seq",
        "last_seq",
        "last_stamp",
        "count",
        "records",
    ]
    .as_slice();
    for (name, fields) in [("LogRecord", record), ("LogFrame", frame)] {
        let row = namedtuple.call1((name, fields.to_vec()))?;
        row.setattr("__module__", "shmcache._engine")?;
        module.add(name, row)?;
    }
    module.add_class::<PyLogTailer>()?;
    module.add_function(wrap_pyfunction!(decode_records, module)?)?;
    module.add_function(wrap_pyfunction!(decode_changes, module)?)?;
    module.add_function(wrap_pyfunction!(split_records, module)?)
}
