//! `Decisions`: what a shard has decided about transactions over several shards.

use super::convert::borrow_fd;
use super::errors::EngineError;
use crate::layout::header;
use crate::owner::Decisions;
use pyo3::prelude::*;

#[pyclass(name = "Decisions", module = "shmcache._engine", frozen)]
struct PyDecisions {
    decisions: Decisions,
}

#[pymethods]
impl PyDecisions {
    #[new]
    fn new(data_fd: i32) -> PyResult<PyDecisions> {
        let decisions = Decisions::open(borrow_fd(data_fd)?).map_err(|error| EngineError::new_err(error.to_string()))?;
        Ok(PyDecisions { decisions })
    }

    #[getter]
    fn prepared(&self) -> (u64, u64) {
        self.decisions.prepared()
    }

    fn outcome(&self, token: u64, shard: u64) -> Option<bool> {
        self.decisions.outcome(token, shard)
    }
}

pub fn register(module: &Bound<PyModule>) -> PyResult<()> {
    module.add("MAX_DECISION_SHARDS", header::DECISION_COUNT)?;
    module.add_class::<PyDecisions>()
}
