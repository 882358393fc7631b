//! The score of one member, looked for by a local reader.

use super::collections::{find, Copy, Found};
use super::convert::bytes_of;
use super::errors;
use super::reader::PyReader;
use crate::commands::Fail;
use crate::compact::Compact;
use crate::layout::Kind;
use crate::owner::large::score_of;
use pyo3::prelude::*;

impl PyReader {
    #[inline]
    pub(super) fn find_score(&self, py: Python, key: &Bound<PyAny>, member: &Bound<PyAny>) -> PyResult<Option<f64>> {
        let mut copy = Copy::new();
        let mut look = |key: &[u8], member: &[u8]| {
            let found = find(self.shard_of(key), key, Kind::Zset, member, &mut copy).map_err(errors::unread)?;
            match found {
                Found::Wrong => Err(errors::fail(py, Fail::wrong_type())),
                Found::Nothing => Ok(None),
                Found::Compact => Ok(Compact::parse(&copy).and_then(|zset| zset.score(member))),
                Found::Part => Ok(Some(score_of(&copy))),
            }
        };
        bytes_of(key, |key| bytes_of(member, |member| look(key, member)))??
    }
}
