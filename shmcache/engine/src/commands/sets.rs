//! Commands on sets.

use super::read::View;
use super::reply::Sink;
use super::table::Command;
use super::{Args, Fail};
use crate::owner::Owner;

pub fn run(_owner: &mut Owner, command: Command, _args: &Args, _out: &mut impl Sink) -> Result<(), Fail> {
    unreachable!("{command:?} is no set command")
}

/// Commands that a lock-free reader answers too.
pub fn read<V: View, S: Sink>(_view: &mut V, command: Command, _args: &Args, _out: &mut S) -> Result<(), Fail> {
    unreachable!("{command:?} is flagged LOCAL and has no reader")
}
