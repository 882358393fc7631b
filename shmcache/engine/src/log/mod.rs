//! The write log of a shard: a ring of effect records in shared memory, one writer, registered tailers.

pub mod frame;
pub mod record;
pub mod ring;
pub mod split;
pub mod tailer;
pub mod waiting;
pub mod writer;

pub use frame::{Frame, FrameError};
pub use record::{Effect, Record};
pub use tailer::{LogTailer, TailError};
pub use writer::LogWriter;
