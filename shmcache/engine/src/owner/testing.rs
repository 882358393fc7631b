//! Regions in anonymous memory, for tests.
#![allow(unsafe_code)]

use super::{Options, OwnError, Owner, Policy};
use crate::commands::reply::Sink;
use crate::commands::resolve;
use crate::reader::ShardReader;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

pub struct Regions {
    pub data: OwnedFd,
    pub hints: OwnedFd,
    pub log: OwnedFd,
}

impl Default for Regions {
    fn default() -> Regions {
        Regions::new()
    }
}

impl Regions {
    pub fn new() -> Regions {
        Regions {
            data: memory(),
            hints: memory(),
            log: memory(),
        }
    }

    pub fn create(&self, memory_bytes: u64, log_bytes: u64, policy: Policy) -> Owner {
        let options = Options {
            memory_bytes,
            capacity_bytes: memory_bytes.max(16 << 20),
            log_bytes,
            shard: 0,
            shards: 1,
            policy,
        };
        Owner::create(self.data.as_fd(), self.hints.as_fd(), self.log.as_fd(), &options).expect("memory for a test")
    }

    pub fn attach(&self) -> Result<Owner, OwnError> {
        Owner::attach(self.data.as_fd(), self.hints.as_fd(), self.log.as_fd())
    }

    pub fn reader(&self) -> ShardReader {
        ShardReader::open(self.data.as_fd(), self.hints.as_fd()).expect("a region that was created")
    }
}

fn memory() -> OwnedFd {
    // SAFETY: a constant name; the new descriptor is ours.
    unsafe {
        let fd = libc::memfd_create(c"shmcache-test".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

/// Run one command; its reply as msgpack.
pub fn run(owner: &mut Owner, args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    match resolve(args) {
        Ok(spec) => owner.run(spec, args, &mut out),
        Err(fail) => out.error(fail.code, &fail.message),
    }
    out
}

/// xorshift64 (Marsaglia 2003), seeded so that a failure can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}
