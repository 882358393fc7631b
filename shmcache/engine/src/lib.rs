//! The native engine of shmcache: one shard of a cache in shared memory.
//!
//! Goals: one writer per shard, readers that never block and never trust, an owner that may die at any instruction, a
//! log record for each effect, a bound on everything.
//!
//! Not goals: sockets, processes, topology, disks (the Python around it has those); durability against power loss (the log's tailers do
//! that); more than one writer.
#![deny(unsafe_code)]

#[cfg(feature = "python")]
mod bindings;
pub mod bucket;
pub mod clock;
pub mod commands;
pub mod compact;
pub mod cutting;
pub mod deadlines;
pub mod failpoint;
pub mod heap;
pub mod hints;
pub mod index;
pub mod layout;
pub mod log;
pub mod memory;
pub mod owner;
pub mod packing;
pub mod parts;
pub mod reader;
pub mod resp;
pub mod slots;
pub mod sync;
