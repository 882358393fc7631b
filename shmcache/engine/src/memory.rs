//! Mapped shared memory. One of the few modules that touch raw memory; everything above it is safe code.
//!
//! Three views with different rights:
//! * [`OwnerMap`]: the data region as its only writer sees it. Nobody else can change it, so plain slices may be lent, tied to `&self`, while all
//!   stores take `&mut self`.
//! * [`ReaderMap`]: the data region as everybody else sees it, read-only. It changes under the reader: only relaxed atomic words leave it,
//!   each checked against the bounds.
//! * [`SharedMap`]: a region with several writers (hints, log): only atomic words and bytes.
//!
//! Bytes are moved as whole aligned words with relaxed atomic loads and stores, which is what makes a race between the owner
//! and a reader defined behaviour: the reader gets stale or mixed *words*, and the bucket protocol throws those away.
#![allow(unsafe_code)]

use crate::layout::{padded, PAGE_BYTES, WORD};
use crate::sync::Ordering;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicU8};

/// One mapping of one shared memory object, unmapped on drop.
struct Mapping {
    base: *mut u8,
    bytes: u64,
}

// SAFETY: the mapping is plain memory that lives as long as the value; `base` is never re-pointed. Which accesses are allowed from
// which thread is decided by the views below (atomics only where there can be several).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd, bytes: u64, writable: bool) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases nothing of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes as usize,
                protection,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Readers jump about: read-ahead would be wasted. Huge pages, where /dev/shm offers them, save most TLB misses. Both are
        // advice, so failure is no error.
        // SAFETY: the range is the mapping just made.
        unsafe {
            libc::madvise(base, bytes as usize, libc::MADV_HUGEPAGE);
            libc::madvise(base, bytes as usize, libc::MADV_DONTDUMP);
        }
        Ok(Mapping {
            base: base.cast(),
            bytes,
        })
    }

    #[inline(always)]
    fn check(&self, at: u64, bytes: u64) {
        assert!(
            at <= self.bytes && bytes <= self.bytes - at,
            "access outside the region: {at}+{bytes} of {}",
            self.bytes
        );
    }

    #[inline(always)]
    fn word(&self, at: u64) -> &AtomicU64 {
        self.check(at, WORD);
        assert!(at.is_multiple_of(WORD));
        // SAFETY: in bounds and aligned (checked above; mappings begin at a page); the memory lives as long as `self`; shared
        // access to it is only ever atomic, or excluded by `&mut OwnerMap`.
        unsafe { &*self.base.add(at as usize).cast::<AtomicU64>() }
    }

    #[inline(always)]
    fn byte(&self, at: u64) -> &AtomicU8 {
        self.check(at, 1);
        // SAFETY: as in `word`; bytes and words are never mixed on one place (marks and page table are bytes only).
        unsafe { &*self.base.add(at as usize).cast::<AtomicU8>() }
    }

    /// Copy `out.len()` bytes that begin at the aligned `at`, word by word, relaxed.
    #[inline]
    fn copy_out(&self, at: u64, out: &mut [u8]) {
        self.check(at, padded(out.len() as u64));
        let mut words = out.chunks_exact_mut(8);
        let mut place = at;
        for chunk in &mut words {
            // An array: the compiler does not see by itself that a chunk's copy is one move.
            let chunk: &mut [u8; 8] = chunk.try_into().expect("eight bytes");
            *chunk = self.word_unchecked(place).load(Ordering::Relaxed).to_le_bytes();
            place += WORD;
        }
        let rest = words.into_remainder();
        if !rest.is_empty() {
            let last = self.word_unchecked(place).load(Ordering::Relaxed).to_le_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }

    /// The reverse; the last word is padded with zeros.
    #[inline]
    fn copy_in(&self, at: u64, data: &[u8]) {
        self.check(at, padded(data.len() as u64));
        let mut words = data.chunks_exact(8);
        let mut place = at;
        for chunk in &mut words {
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            self.word_unchecked(place).store(word, Ordering::Relaxed);
            place += WORD;
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word_unchecked(place).store(u64::from_le_bytes(last), Ordering::Relaxed);
        }
    }

    /// True if the bytes at the aligned `at` are `data` (relaxed words: a race makes it wrong, validation catches it).
    #[inline]
    fn equals(&self, at: u64, data: &[u8]) -> bool {
        self.check(at, padded(data.len() as u64));
        let mut words = data.chunks_exact(8);
        let mut place = at;
        for chunk in &mut words {
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            if self.word_unchecked(place).load(Ordering::Relaxed) != word {
                return false;
            }
            place += WORD;
        }
        let rest = words.remainder();
        if rest.is_empty() {
            return true;
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word_unchecked(place).load(Ordering::Relaxed) == u64::from_le_bytes(last)
    }

    /// For the loops above, which have checked the whole range.
    #[inline(always)]
    fn word_unchecked(&self, at: u64) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(WORD) && at + WORD <= self.bytes);
        // SAFETY: the callers checked [at, at + 8) to be in bounds, and begin at aligned places.
        unsafe { &*self.base.add(at as usize).cast::<AtomicU64>() }
    }

    #[inline(always)]
    fn prefetch(&self, at: u64) {
        #[cfg(target_arch = "x86_64")]
        if at < self.bytes {
            // SAFETY: a prefetch has no effect on memory and the address is inside the mapping.
            unsafe { std::arch::x86_64::_mm_prefetch(self.base.add(at as usize).cast(), std::arch::x86_64::_MM_HINT_T0) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = at;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.base.cast(), self.bytes as usize) };
    }
}

/// Size of the object behind a descriptor, bytes.
pub fn object_bytes(fd: BorrowedFd) -> io::Result<u64> {
    // SAFETY: `stat` is plain data that fstat fills.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a valid descriptor (borrowed) and a valid place for the answer.
    if unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.st_size as u64)
}

/// A shared memory object that grows: address space up to its size, memory only where committed.
struct Growing {
    fd: OwnedFd,
}

impl Growing {
    fn new(fd: BorrowedFd) -> io::Result<Growing> {
        // SAFETY: duplicates a descriptor that the caller lends; the copy is ours.
        let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(copy) };
        Ok(Growing { fd })
    }

    /// Take memory for [at, at + bytes): without it, touching a page of a full tmpfs is a SIGBUS.
    fn commit(&self, at: u64, bytes: u64) -> io::Result<()> {
        loop {
            // SAFETY: plain system call on our own descriptor.
            match unsafe { libc::posix_fallocate(self.fd.as_raw_fd(), at as libc::off_t, bytes as libc::off_t) } {
                0 => return Ok(()),
                libc::EINTR => continue,
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        }
    }
}

/// Set the size of an object and take memory for its first `committed` bytes.
pub fn format_object(fd: BorrowedFd, bytes: u64, committed: u64) -> io::Result<()> {
    // SAFETY: plain system calls on a borrowed descriptor. Emptying first makes old content zeros.
    unsafe {
        if libc::ftruncate(fd.as_raw_fd(), 0) != 0 || libc::ftruncate(fd.as_raw_fd(), bytes as libc::off_t) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Growing::new(fd)?.commit(0, committed.next_multiple_of(PAGE_BYTES).min(bytes))
}

/// The data region in the hands of its only writer.
pub struct OwnerMap {
    mapping: Mapping,
    growing: Growing,
}

impl OwnerMap {
    /// The caller vouches that no other process owns this region (the worker holds a lock on the descriptor).
    pub fn new(fd: BorrowedFd, bytes: u64) -> io::Result<OwnerMap> {
        Ok(OwnerMap {
            mapping: Mapping::new(fd, bytes, true)?,
            growing: Growing::new(fd)?,
        })
    }

    pub fn commit(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.growing.commit(at, bytes)
    }

    #[inline(always)]
    pub fn load(&self, at: u64) -> u64 {
        self.mapping.word(at).load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn store(&mut self, at: u64, value: u64) {
        self.mapping.word(at).store(value, Ordering::Relaxed);
    }

    /// A store that everything before it precedes: for journal words and what readers synchronise on.
    #[inline(always)]
    pub fn publish(&mut self, at: u64, value: u64) {
        self.mapping.word(at).store(value, Ordering::Release);
    }

    /// The word itself, for the bucket protocol. Never a word that `slice` may lend.
    #[inline(always)]
    pub fn word(&self, at: u64) -> &AtomicU64 {
        self.mapping.word(at)
    }

    #[inline(always)]
    pub fn byte(&self, at: u64) -> u8 {
        self.mapping.byte(at).load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn store_byte(&mut self, at: u64, value: u8) {
        self.mapping.byte(at).store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    pub fn write(&mut self, at: u64, data: &[u8]) {
        self.mapping.copy_in(at, data);
    }

    #[inline(always)]
    pub fn equals(&self, at: u64, data: &[u8]) -> bool {
        self.mapping.equals(at, data)
    }

    /// Bytes of the region, lent until the next change.
    #[inline(always)]
    pub fn slice(&self, at: u64, bytes: u64) -> &[u8] {
        self.mapping.check(at, bytes);
        // SAFETY: in bounds; this process is the region's only writer and all stores need `&mut self`, so
        // the bytes stand still while the slice lives. (Versions, which `word` lends, are not entry bytes.)
        unsafe { std::slice::from_raw_parts(self.mapping.base.add(at as usize), bytes as usize) }
    }

    #[inline(always)]
    pub fn prefetch(&self, at: u64) {
        self.mapping.prefetch(at);
    }

    pub fn bytes(&self) -> u64 {
        self.mapping.bytes
    }
}

/// The data region in the hands of anyone else: read-only to the MMU.
pub struct ReaderMap {
    mapping: Mapping,
}

impl ReaderMap {
    pub fn new(fd: BorrowedFd, bytes: u64) -> io::Result<ReaderMap> {
        Ok(ReaderMap {
            mapping: Mapping::new(fd, bytes, false)?,
        })
    }

    #[inline(always)]
    pub fn word(&self, at: u64) -> &AtomicU64 {
        self.mapping.word(at)
    }

    #[inline(always)]
    pub fn load(&self, at: u64) -> u64 {
        self.mapping.word(at).load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn equals(&self, at: u64, data: &[u8]) -> bool {
        self.mapping.equals(at, data)
    }

    #[inline(always)]
    pub fn read(&self, at: u64, out: &mut [u8]) {
        self.mapping.copy_out(at, out);
    }

    #[inline(always)]
    pub fn prefetch(&self, at: u64) {
        self.mapping.prefetch(at);
    }

    pub fn bytes(&self) -> u64 {
        self.mapping.bytes
    }
}

/// A region that several processes write.
pub struct SharedMap {
    mapping: Mapping,
    growing: Growing,
}

impl SharedMap {
    pub fn new(fd: BorrowedFd, bytes: u64) -> io::Result<SharedMap> {
        Ok(SharedMap {
            mapping: Mapping::new(fd, bytes, true)?,
            growing: Growing::new(fd)?,
        })
    }

    pub fn commit(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.growing.commit(at, bytes)
    }

    #[inline(always)]
    pub fn word(&self, at: u64) -> &AtomicU64 {
        self.mapping.word(at)
    }

    #[inline(always)]
    pub fn load(&self, at: u64) -> u64 {
        self.mapping.word(at).load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn store(&self, at: u64, value: u64) {
        self.mapping.word(at).store(value, Ordering::Relaxed);
    }

    #[inline(always)]
    pub fn byte(&self, at: u64) -> &AtomicU8 {
        self.mapping.byte(at)
    }

    #[inline(always)]
    pub fn write(&self, at: u64, data: &[u8]) {
        self.mapping.copy_in(at, data);
    }

    #[inline(always)]
    pub fn read(&self, at: u64, out: &mut [u8]) {
        self.mapping.copy_out(at, out);
    }

    pub fn bytes(&self) -> u64 {
        self.mapping.bytes
    }
}
