//! Engine errors as Python exceptions: one function per error type, each match exhaustive.

use crate::commands::Fail;
use crate::log::frame::MAX_FRAME_BYTES;
use crate::log::{FrameError, TailError};
use crate::owner::OwnError;
use crate::reader::digest::Unlisted;
use crate::reader::Unread;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(shmcache._engine, EngineError, PyException);
create_exception!(shmcache._engine, LayoutMismatch, EngineError);
create_exception!(shmcache._engine, NoSpace, EngineError);
create_exception!(shmcache._engine, Busy, EngineError);
create_exception!(shmcache._engine, Retired, EngineError);
create_exception!(shmcache._engine, Overtaken, EngineError);
create_exception!(shmcache._engine, CommandError, EngineError);

pub fn command_error(py: Python, code: &str, message: &str) -> PyErr {
    let error = CommandError::new_err(format!("{code} {message}"));
    let value = error.value(py);
    match value.setattr("code", code).and_then(|()| value.setattr("message", message)) {
        Ok(()) => error,
        Err(other) => other,
    }
}

pub fn fail(py: Python, fail: Fail) -> PyErr {
    command_error(py, fail.code, &fail.message)
}

pub fn own(error: OwnError) -> PyErr {
    match error {
        OwnError::Setting(what) => EngineError::new_err(what),
        OwnError::Layout(what) => LayoutMismatch::new_err(what),
        OwnError::Damaged(what) => EngineError::new_err(format!("the region is damaged: {what}")),
        OwnError::NoSpace(what) => NoSpace::new_err(what),
        OwnError::Io(error) => EngineError::new_err(error.to_string()),
    }
}

pub fn unread(error: Unread) -> PyErr {
    match error {
        Unread::Busy => Busy::new_err("the bucket is being changed: ask the owner"),
        Unread::Retired => Retired::new_err("the region has been replaced: map it again"),
    }
}

pub fn tail(error: TailError) -> PyErr {
    match error {
        TailError::Overtaken => Overtaken::new_err("the log has overwritten what was to be read next"),
        TailError::NoPlace => EngineError::new_err("all places for tailers are taken"),
        TailError::Layout(what) => LayoutMismatch::new_err(what),
        TailError::Corrupt(position, what) => {
            EngineError::new_err(format!("the record at log position {position} is damaged: {what}"))
        }
        TailError::Io(error) => EngineError::new_err(error.to_string()),
    }
}

pub fn unlisted(error: Unlisted, max_entries: usize) -> PyErr {
    match error {
        Unlisted::Unread(error) => unread(error),
        Unlisted::TooMany => EngineError::new_err(format!("these slots have more than {max_entries} entries")),
    }
}

pub fn frame(error: FrameError) -> PyErr {
    match error {
        FrameError::Tail(error) => tail(error),
        FrameError::Unread(error) => unread(error),
        // The way out is the same as for one who was overtaken, so it is the same exception.
        FrameError::TooLarge => {
            Overtaken::new_err(format!("a frame would take more than {MAX_FRAME_BYTES} bytes: resynchronise"))
        }
    }
}

pub fn register(module: &Bound<PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("EngineError", py.get_type::<EngineError>())?;
    module.add("LayoutMismatch", py.get_type::<LayoutMismatch>())?;
    module.add("NoSpace", py.get_type::<NoSpace>())?;
    module.add("Busy", py.get_type::<Busy>())?;
    module.add("Retired", py.get_type::<Retired>())?;
    module.add("Overtaken", py.get_type::<Overtaken>())?;
    module.add("CommandError", py.get_type::<CommandError>())
}
