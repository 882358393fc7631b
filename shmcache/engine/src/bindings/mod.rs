//! The border to Python: the only place where PyO3 appears. `_engine.pyi` is its documentation.

mod collections;
mod convert;
mod decisions;
mod errors;
mod local;
mod log;
mod owner;
mod packing;
mod reader;

use crate::commands::batch::{FLAG_READ_ONLY, FLAG_TRANSACTION, MAX_BATCH_COMMANDS};
use crate::commands::events::EVENTS;
use crate::commands::table::{COMMANDS, FAMILIES, FLAG_NAMES};
use crate::failpoint::{arm, FAIL_POINTS};
use crate::layout;
use crate::log::frame::MAX_FRAME_BYTES;
use crate::owner::Policy;
use crate::parts::PREFIX;
use crate::resp::next_command;
use crate::slots::slot_of;
use convert::bytes_of;
use errors::EngineError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFrozenSet, PyList, PyTuple};

/// Arm, or with an empty name disarm, a fail point.
#[pyfunction]
#[pyo3(signature = (name, after = 0))]
fn arm_fail_point(name: &str, after: u32) -> PyResult<()> {
    if name.is_empty() {
        arm(None, 0);
        return Ok(());
    }
    let point = FAIL_POINTS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| EngineError::new_err(format!("no fail point {name:?}")))?;
    arm(Some(point.1), after);
    Ok(())
}

#[pyfunction]
fn key_slot(key: &Bound<PyAny>) -> PyResult<u16> {
    bytes_of(key, slot_of)
}

#[pyfunction]
fn key_slots(keys: &Bound<PyAny>) -> PyResult<Vec<u16>> {
    keys.try_iter()?.map(|key| bytes_of(&key?, slot_of)).collect()
}

/// Commands from `at` on, each a list of bytes, and where they end.
#[pyfunction]
fn split_requests<'py>(py: Python<'py>, data: &[u8], at: usize) -> PyResult<(Bound<'py, PyList>, usize)> {
    let commands = PyList::empty(py);
    let mut args = Vec::new();
    let mut place = at;
    while let Some(end) = next_command(data, place, &mut args) {
        commands.append(PyList::new(py, args.iter().map(|arg| PyBytes::new(py, arg)))?)?;
        place = end;
    }
    Ok((commands, place))
}

fn commands(py: Python) -> PyResult<Bound<PyTuple>> {
    let namedtuple = py.import("collections")?.getattr("namedtuple")?;
    let fields = [
        "name",
        "arity",
        "first_key",
        "last_key",
        "key_step",
        "flags",
        "split",
        "family",
        "summary",
        "numkeys",
    ];
    let row = namedtuple.call1(("CommandSpec", fields))?;
    row.setattr("__module__", "shmcache._engine")?;
    let rows = COMMANDS
        .iter()
        .map(|spec| {
            let flags = PyFrozenSet::new(
                py,
                FLAG_NAMES
                    .iter()
                    .filter(|(bit, _)| spec.flags & bit != 0)
                    .map(|(_, name)| *name),
            )?;
            let (first, last, step) = spec.keys;
            row.call1((
                spec.name,
                spec.arity,
                first,
                last,
                step,
                flags,
                spec.split,
                FAMILIES[spec.family],
                spec.summary,
                spec.numkeys,
            ))
        })
        .collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, rows)
}

#[pymodule]
fn _engine(module: &Bound<PyModule>) -> PyResult<()> {
    let py = module.py();
    if cfg!(debug_assertions) {
        let warnings = py.import("warnings")?;
        warnings.call_method1("warn", ("shmcache._engine is a debug build: slow, not for use",))?;
    }
    module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
    module.add("LAYOUT_VERSION", layout::LAYOUT_VERSION)?;
    module.add("SLOT_COUNT", layout::SLOT_COUNT)?;
    module.add("MAX_KEY_BYTES", layout::MAX_KEY_BYTES)?;
    module.add("MAX_VALUE_BYTES", layout::MAX_VALUE_BYTES)?;
    module.add("MAX_BATCH_COMMANDS", MAX_BATCH_COMMANDS)?;
    module.add("MIN_MEMORY_BYTES", layout::MIN_MEMORY_BYTES)?;
    module.add("MAX_FRAME_BYTES", MAX_FRAME_BYTES)?;
    module.add("FLAG_TRANSACTION", FLAG_TRANSACTION)?;
    module.add("FLAG_READ_ONLY", FLAG_READ_ONLY)?;
    module.add("POLICIES", PyTuple::new(py, Policy::ALL.map(|(name, _)| name))?)?;
    module.add("FAIL_POINTS", PyTuple::new(py, FAIL_POINTS.iter().map(|(name, _)| *name))?)?;
    let events = PyDict::new(py);
    for (letter, name) in &EVENTS[1..] {
        events.set_item(name, letter)?;
    }
    module.add("EVENTS", events)?;
    module.add("PART_PREFIX", PyBytes::new(py, &PREFIX))?;
    let rows = commands(py)?;
    if let Ok(first) = rows.get_item(0) {
        module.add("CommandSpec", first.get_type())?;
    }
    module.add("COMMANDS", rows)?;
    module.add_function(wrap_pyfunction!(arm_fail_point, module)?)?;
    module.add_function(wrap_pyfunction!(key_slot, module)?)?;
    module.add_function(wrap_pyfunction!(key_slots, module)?)?;
    module.add_function(wrap_pyfunction!(split_requests, module)?)?;
    errors::register(module)?;
    decisions::register(module)?;
    owner::register(module)?;
    packing::register(module)?;
    reader::register(module)?;
    log::register(module)?;
    Ok(())
}
