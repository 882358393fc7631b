//! Python objects to argument bytes, replies to Python objects.
#![allow(unsafe_code)]

use super::errors::EngineError;
use crate::commands::number::format_float;
use crate::commands::reply::Sink;
use crate::layout::SLOT_COUNT;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyString};
use std::os::fd::BorrowedFd;

/// Lend the bytes of a bytes, str, int, float or buffer object.
#[inline]
pub fn bytes_of<T>(object: &Bound<PyAny>, take: impl FnOnce(&[u8]) -> T) -> PyResult<T> {
    if let Ok(text) = object.cast_exact::<PyString>() {
        return Ok(take(text.to_str()?.as_bytes()));
    }
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        return Ok(take(bytes.as_bytes()));
    }
    Ok(take(&to_bytes(object)?))
}

/// A copy of the argument bytes of an object.
pub fn to_bytes(object: &Bound<PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes().to_vec());
    }
    if !object.is_instance_of::<PyBool>() {
        if let Ok(number) = object.cast::<PyInt>() {
            return Ok(number.str()?.to_str()?.as_bytes().to_vec());
        }
        if let Ok(number) = object.cast::<PyFloat>() {
            return Ok(format_float(number.value()).into_bytes());
        }
        if let Ok(buffer) = PyBuffer::<u8>::get(object) {
            return buffer.to_vec(object.py());
        }
    }
    Err(PyTypeError::new_err(format!(
        "a key or value must be bytes, str, int, float or a buffer, not {}",
        object.get_type().name()?
    )))
}

/// A descriptor that the caller keeps open during the call.
pub fn borrow_fd<'a>(fd: i32) -> PyResult<BorrowedFd<'a>> {
    // SAFETY: fcntl only asks whether the number is an open descriptor.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(EngineError::new_err(format!("{fd} is not an open file descriptor")));
    }
    // SAFETY: open just now; the caller's object keeps it open while the call runs, and nothing keeps the borrow longer.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// A slot table, 16384 little-endian u16, that names shards below `shards` only.
pub fn slot_table(bytes: &[u8], shards: usize) -> PyResult<Vec<u16>> {
    if bytes.len() != SLOT_COUNT * 2 {
        return Err(EngineError::new_err(format!(
            "a slot table has {} bytes, not {}",
            SLOT_COUNT * 2,
            bytes.len()
        )));
    }
    let slots: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    if slots.iter().any(|&shard| shard as usize >= shards) {
        return Err(EngineError::new_err("the slot table names a shard that is not given"));
    }
    Ok(slots)
}

/// A bit per slot: bit s%8 of byte s/8.
pub fn slot_bitmap(bytes: &[u8]) -> PyResult<&[u8; SLOT_COUNT / 8]> {
    bytes
        .try_into()
        .map_err(|_| EngineError::new_err(format!("a slot bitmap has {} bytes", SLOT_COUNT / 8)))
}

/// Builds the Python objects of one reply.
pub struct PySink<'py> {
    py: Python<'py>,
    decode: bool,
    /// Arrays being filled: elements and how many are to come.
    open: Vec<(Vec<Bound<'py, PyAny>>, usize)>,
    done: Option<PyResult<Bound<'py, PyAny>>>,
}

impl<'py> PySink<'py> {
    pub fn new(py: Python<'py>, decode: bool) -> PySink<'py> {
        PySink {
            py,
            decode,
            open: Vec::new(),
            done: None,
        }
    }

    pub fn finish(self) -> PyResult<Bound<'py, PyAny>> {
        self.done.expect("every command replies")
    }

    fn put(&mut self, object: PyResult<Bound<'py, PyAny>>) {
        let mut object = object;
        while let Some((items, missing)) = self.open.last_mut() {
            match object {
                Ok(item) => items.push(item),
                Err(error) => {
                    self.open.clear();
                    self.done = Some(Err(error));
                    return;
                }
            }
            *missing -= 1;
            if *missing > 0 {
                return;
            }
            let (items, _) = self.open.pop().expect("just seen");
            object = PyList::new(self.py, items).map(Bound::into_any);
        }
        self.done = Some(object);
    }
}

impl Sink for PySink<'_> {
    fn nil(&mut self) {
        let none = self.py.None().into_bound(self.py);
        self.put(Ok(none));
    }

    fn int(&mut self, value: i64) {
        let number = PyInt::new(self.py, value).into_any();
        self.put(Ok(number));
    }

    fn bytes(&mut self, data: &[u8]) {
        let object = value_object(self.py, data, self.decode);
        self.put(object);
    }

    fn status(&mut self, text: &str) {
        let text = PyString::new(self.py, text).into_any();
        self.put(Ok(text));
    }

    fn array(&mut self, length: usize) {
        if length == 0 {
            let empty = PyList::empty(self.py).into_any();
            self.put(Ok(empty));
        } else {
            self.open.push((Vec::with_capacity(length.min(1 << 16)), length));
        }
    }

    fn error(&mut self, code: &str, message: &str) {
        self.open.clear();
        self.done = Some(Err(super::errors::command_error(self.py, code, message)));
    }

    fn mark(&self) -> usize {
        0
    }

    fn rewind(&mut self, _: usize) {
        self.open.clear();
        self.done = None;
    }
}

/// bytes, or str if decoding.
#[inline]
pub fn value_object<'py>(py: Python<'py>, data: &[u8], decode: bool) -> PyResult<Bound<'py, PyAny>> {
    if decode {
        Ok(PyString::from_bytes(py, data)?.into_any())
    } else {
        Ok(PyBytes::new(py, data).into_any())
    }
}
