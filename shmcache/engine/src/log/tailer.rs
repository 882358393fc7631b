//! The other end of the log: a registered reader of whole groups.

use super::record::{Record, FILLER};
use super::{ring, waiting};
use crate::clock::now_ms;
use crate::layout::{log, LAYOUT_VERSION, MAGIC_LOG};
use crate::memory::{object_bytes, SharedMap};
use crate::sync::Ordering;
use std::io;
use std::os::fd::BorrowedFd;

#[derive(Debug)]
pub enum TailError {
    /// The ring overwrote what was to be read next.
    Overtaken,
    /// All places for tailers are taken by living processes.
    NoPlace,
    /// Not a log of this layout.
    Layout(String),
    /// A record that was read in peace is damaged, at this position.
    Corrupt(u64, &'static str),
    Io(io::Error),
}

/// Map a log region, refusing what is none.
pub fn map_log(fd: BorrowedFd) -> Result<SharedMap, TailError> {
    let bytes = object_bytes(fd).map_err(TailError::Io)?;
    if bytes < log::RING_AT {
        return Err(TailError::Layout(format!("a log region of {bytes} bytes")));
    }
    let map = SharedMap::new(fd, bytes).map_err(TailError::Io)?;
    if map.load(log::MAGIC) != MAGIC_LOG {
        return Err(TailError::Layout("not a log region".into()));
    }
    if map.load(log::LAYOUT_VERSION) != LAYOUT_VERSION {
        return Err(TailError::Layout(format!(
            "layout version {}, this is {LAYOUT_VERSION}",
            map.load(log::LAYOUT_VERSION)
        )));
    }
    let ring = map.load(log::RING_BYTES);
    if ring < 8 || !ring.is_multiple_of(8) || ring > bytes - log::RING_AT {
        return Err(TailError::Layout(format!("a ring of {ring} bytes in a region of {bytes}")));
    }
    Ok(map)
}

/// Copy the whole records in [position, head), at most about `max_bytes` but at least one group. Returns them and the position behind.
/// Used by tailers and by the owner's own recovery.
pub fn read_groups(map: &SharedMap, position: u64, max_bytes: usize, out: &mut Vec<u8>) -> Result<u64, TailError> {
    let ring_bytes = map.load(log::RING_BYTES);
    let place = |position: u64| log::RING_AT + position % ring_bytes;
    let head = ring::readable_to(map.word(log::HEAD));
    let tail = map.word(log::TAIL);
    let mut at = position;
    let mut group_start = (position, out.len());
    while at < head {
        let word = map.load(place(at));
        let length = (word as u32 & !FILLER) as u64;
        let to_end = ring_bytes - at % ring_bytes;
        if length < 8 || !length.is_multiple_of(8) || length > to_end || length > head - at {
            // Either the words are being overwritten, or the log is damaged.
            return Err(if ring::still_there(tail, position) {
                TailError::Corrupt(at, "its length is impossible")
            } else {
                TailError::Overtaken
            });
        }
        if word as u32 & FILLER == 0 {
            let start = out.len();
            out.resize(start + length as usize, 0);
            map.read(place(at), &mut out[start..]);
            if !ring::still_there(tail, position) {
                return Err(TailError::Overtaken);
            }
            let more = Record::decode(&out[start..])
                .map_err(|what| TailError::Corrupt(at, what))?
                .0
                .more;
            at += length;
            if !more {
                group_start = (at, out.len());
                if out.len() >= max_bytes {
                    break;
                }
            }
        } else {
            if !ring::still_there(tail, position) {
                return Err(TailError::Overtaken);
            }
            at += length;
            if group_start.1 == out.len() {
                group_start.0 = at;
            }
        }
    }
    // Groups are published whole, so this cuts nothing off unless the log was damaged.
    out.truncate(group_start.1);
    Ok(group_start.0)
}

pub struct LogTailer {
    pub(super) map: SharedMap,
    /// Byte position of its place in the table.
    place: u64,
    pub position: u64,
}

impl LogTailer {
    /// Register as `name`. Position None: from the log's end.
    pub fn register(fd: BorrowedFd, name: &str, position: Option<u64>) -> Result<LogTailer, TailError> {
        let map = map_log(fd)?;
        let pid = std::process::id() as u64;
        let place = (0..log::TAILERS)
            .map(|index| log::TAILERS_AT + index * log::TAILER_BYTES)
            .find(|&place| {
                let word = map.word(place + log::TAILER_PID);
                let holder = word.load(Ordering::Relaxed);
                (holder == 0 || !process_lives(holder))
                    && word
                        .compare_exchange(holder, pid, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok()
            })
            .ok_or(TailError::NoPlace)?;
        let mut padded_name = [0u8; log::TAILER_NAME_BYTES as usize];
        let length = name.len().min(padded_name.len() - 1);
        padded_name[..length].copy_from_slice(&name.as_bytes()[..length]);
        map.write(place + log::TAILER_NAME, &padded_name);
        let mut tailer = LogTailer { map, place, position: 0 };
        // A former holder may have died asleep.
        tailer.cancel_wait();
        tailer.position = match position {
            None => ring::readable_to(tailer.map.word(log::HEAD)),
            Some(0) => tailer.first_position(),
            Some(position) => position,
        };
        if tailer.position < tailer.first_position() {
            return Err(TailError::Overtaken);
        }
        if tailer.position > ring::readable_to(tailer.map.word(log::HEAD)) {
            return Err(TailError::Layout(format!(
                "position {} lies behind the log's end",
                tailer.position
            )));
        }
        tailer.report();
        Ok(tailer)
    }

    /// Oldest position that can still be read.
    pub fn first_position(&self) -> u64 {
        self.map.load(log::TAIL)
    }

    pub fn lag_bytes(&self) -> u64 {
        ring::readable_to(self.map.word(log::HEAD)) - self.position
    }

    /// Sequence number of the log's last record, for tools: the record may be about to be published.
    pub fn head_seq(&self) -> u64 {
        self.map.load(log::HEAD_SEQ)
    }

    /// Append the next whole groups to `out`.
    pub fn poll(&mut self, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), TailError> {
        self.position = read_groups(&self.map, self.position, max_bytes, out)?;
        self.report();
        Ok(())
    }

    /// Tell the owner that this tailer is about to sleep. True if there is still nothing to read; else it must not.
    pub fn prepare_wait(&self) -> bool {
        waiting::prepare(
            self.map.word(log::WAITING),
            self.map.word(log::HEAD),
            self.waiting_bit(),
            self.position,
        )
    }

    pub fn cancel_wait(&self) {
        waiting::cancel(self.map.word(log::WAITING), self.waiting_bit());
    }

    fn waiting_bit(&self) -> u64 {
        1 << ((self.place - log::TAILERS_AT) / log::TAILER_BYTES)
    }

    /// Go on at the oldest record; returns the bytes that were missed.
    pub fn resume_at_oldest(&mut self) -> u64 {
        let oldest = self.first_position();
        let missed = oldest.saturating_sub(self.position);
        self.position = oldest.max(self.position);
        self.report();
        missed
    }

    pub(super) fn report(&self) {
        self.map.store(self.place + log::TAILER_POSITION, self.position);
        self.map.store(self.place + log::TAILER_SEEN_MS, now_ms());
    }
}

impl Drop for LogTailer {
    fn drop(&mut self) {
        if self.map.load(self.place + log::TAILER_PID) == std::process::id() as u64 {
            self.cancel_wait();
        }
        let pid = std::process::id() as u64;
        // A forked child's copy must not give up the parent's place.
        let _ = self
            .map
            .word(self.place + log::TAILER_PID)
            .compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Registered tailers: (name, pid, position, unix ms of the last report).
pub fn tailers(map: &SharedMap) -> Vec<(String, u64, u64, u64)> {
    (0..log::TAILERS)
        .map(|index| log::TAILERS_AT + index * log::TAILER_BYTES)
        .filter(|&place| map.load(place + log::TAILER_PID) != 0)
        .map(|place| {
            let load = |field| map.load(place + field);
            (
                name_at(map, place),
                load(log::TAILER_PID),
                load(log::TAILER_POSITION),
                load(log::TAILER_SEEN_MS),
            )
        })
        .collect()
}

/// Name of the tailer that has, or last had, this place of the table.
pub fn name_at(map: &SharedMap, place: u64) -> String {
    let mut name = [0u8; log::TAILER_NAME_BYTES as usize];
    map.read(place + log::TAILER_NAME, &mut name);
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..length]).into_owned()
}

/// False only if there is certainly no such process.
#[allow(unsafe_code)]
pub fn process_lives(pid: u64) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 is never delivered; the call only asks.
    pid > 0 && (unsafe { libc::kill(pid, 0) } == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH))
}
