//! Commands that give a key another name: RENAME, RENAMENX, COPY.

use super::number::int_arg;
use super::reply::Sink;
use super::{Args, Fail};
use crate::owner::collections::root_id;
use crate::owner::Owner;
use crate::slots::slot_of;

fn no_such_key() -> Fail {
    Fail::err("no such key")
}

/// True if it was done; false if the new name is taken and must not be replaced.
pub fn rename(owner: &mut Owner, args: &Args, replace: bool) -> Result<bool, Fail> {
    let entry = owner.lookup(args[1]).ok_or_else(no_such_key)?;
    if args[1] == args[2] {
        return Ok(replace);
    }
    if !replace && owner.lookup(args[2]).is_some() {
        return Ok(false);
    }
    let kind = entry.meta.kind();
    let (value, deadline) = (owner.value(&entry).to_vec(), owner.deadline(&entry));
    if kind.is_collection() && root_id(&value).is_some() && slot_of(args[1]) != slot_of(args[2]) {
        // Its parts lie in the slot of its key: they are written anew.
        let elements = owner.elements(args[1], kind, entry);
        owner.store(args[2], kind, &elements, deadline)?;
        owner.remove(args[1]);
        return Ok(true);
    }
    owner.grouped(|owner| {
        owner.put(args[2], kind, &value, deadline)?;
        owner.remove(args[1]);
        Ok::<(), Fail>(())
    })?;
    Ok(true)
}

pub fn copy(owner: &mut Owner, args: &Args, out: &mut impl Sink) -> Result<(), Fail> {
    let mut replace = false;
    let mut options = args[3..].iter();
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"replace") {
            replace = true;
        } else if option.eq_ignore_ascii_case(b"db") {
            if int_arg(options.next().ok_or_else(Fail::syntax)?)? != 0 {
                return Err(Fail::err("DB index is out of range"));
            }
        } else {
            return Err(Fail::syntax());
        }
    }
    if args[1] == args[2] {
        return Err(Fail::err("source and destination objects are the same"));
    }
    let Some(entry) = owner.lookup(args[1]) else {
        out.flag(false);
        return Ok(());
    };
    if !replace && owner.lookup(args[2]).is_some() {
        out.flag(false);
        return Ok(());
    }
    let kind = entry.meta.kind();
    let (value, deadline) = (owner.value(&entry).to_vec(), owner.deadline(&entry));
    if kind.is_collection() && root_id(&value).is_some() {
        let elements = owner.elements(args[1], kind, entry);
        owner.store(args[2], kind, &elements, deadline)?;
    } else {
        owner.put(args[2], kind, &value, deadline)?;
    }
    out.flag(true);
    Ok(())
}
