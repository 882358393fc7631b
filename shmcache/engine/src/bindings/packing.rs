//! `Packer` and what makes replies of results: `packing.rs` and `cutting.rs` for the gateway.

use super::convert::slot_table;
use crate::cutting::{self, Form};
use crate::packing::Packer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

#[pyclass(name = "Packer", module = "shmcache._engine", frozen)]
pub struct PyPacker(Packer);

/// Shard, slot, number of commands, whether any writes, msgpack.
type Row<'py> = (u16, u16, u32, bool, Bound<'py, PyBytes>);

#[pymethods]
impl PyPacker {
    #[new]
    #[pyo3(signature = (slots, shards, resp2, resp3))]
    fn new(slots: &[u8], shards: usize, resp2: Vec<(String, u32)>, resp3: Vec<(String, u32)>) -> PyResult<PyPacker> {
        Ok(PyPacker(Packer::new(slot_table(slots, shards)?, shards, [&resp2, &resp3])))
    }

    #[allow(clippy::too_many_arguments)]
    #[pyo3(signature = (data, at, resp3, writes_first, max_commands, max_bytes))]
    fn pack<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        at: usize,
        resp3: bool,
        writes_first: bool,
        max_commands: usize,
        max_bytes: usize,
    ) -> (usize, Vec<Row<'py>>, Option<Bound<'py, PyBytes>>) {
        let packed = self.0.pack(data, at, resp3, writes_first, max_commands, max_bytes);
        let rows = packed
            .parts
            .iter()
            .map(|part| (part.shard, part.slot, part.count, part.writes, PyBytes::new(py, &part.body)))
            .collect();
        let order = (!packed.order.is_empty()).then(|| {
            let bytes: Vec<u8> = packed.order.iter().flat_map(|number| number.to_le_bytes()).collect();
            PyBytes::new(py, &bytes)
        });
        (packed.end, rows, order)
    }

    fn pack_packets<'py>(
        &self,
        py: Python<'py>,
        packets: Vec<(Bound<'py, PyBytes>, u8)>,
        max_commands: usize,
        max_bytes: usize,
    ) -> (Bound<'py, PyBytes>, Vec<(u32, u8)>, u16, bool) {
        let plain: Vec<_> = packets.iter().map(|(data, form)| (data.as_bytes(), *form == 3)).collect();
        let batch = self.0.pack_packets(&plain, max_commands, max_bytes);
        let runs = batch
            .counts
            .iter()
            .zip(&packets)
            .map(|(&count, &(_, form))| (count, form))
            .collect();
        (PyBytes::new(py, &batch.payload), runs, batch.slot, batch.writes)
    }
}

/// Cut a batch's results into runs, each as RESP2 (form 2), RESP3 (3) or msgpack (0): (runs, codes of errors); None if it is no plain reply.
#[pyfunction]
fn cut_results<'py>(
    py: Python<'py>,
    payload: &[u8],
    runs: Vec<(usize, u8)>,
) -> PyResult<Option<(Bound<'py, PyList>, Vec<String>)>> {
    let form = |form| match form {
        2 => Form::Resp2,
        3 => Form::Resp3,
        _ => Form::Raw,
    };
    let runs: Vec<_> = runs.into_iter().map(|(count, number)| (count, form(number))).collect();
    let Ok((cut, codes)) = cutting::results(payload, &runs) else {
        return Ok(None);
    };
    Ok(Some((PyList::new(py, cut.iter().map(|data| PyBytes::new(py, data)))?, codes)))
}

/// Results of several shards (msgpack arrays) as replies in the order of their commands: (replies, codes of errors); None if they do not fit.
#[pyfunction]
fn weave_results<'py>(
    py: Python<'py>,
    order: &[u8],
    parts: Vec<Bound<'py, PyBytes>>,
    resp3: bool,
) -> Option<(Bound<'py, PyBytes>, Vec<String>)> {
    let order: Vec<u16> = order
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let (replies, codes) = cutting::weave(&order, &parts, resp3).ok()?;
    Some((PyBytes::new(py, &replies), codes))
}

pub fn register(module: &Bound<PyModule>) -> PyResult<()> {
    module.add_class::<PyPacker>()?;
    module.add_function(wrap_pyfunction!(cut_results, module)?)?;
    module.add_function(wrap_pyfunction!(weave_results, module)?)
}
