"""What outlives the machine: snapshots and the append-only file, written from the logs and the data by the keeper, read at a start.

    files.py      the few calls to the operating system that durability hangs on
    locking.py    one process at a time works in a data folder
    blocks.py     the format that all files share: blocks with checksums
    segments.py   the append-only file: numbered segments, their torn ends
    snapshots.py  a snapshot: one file for each shard, and a manifest
    appending.py walking.py   how both are written
    encryption.py             what seals the blocks
    archive.py archiving.py fetching.py   an object store: its calls, what goes there, what comes from there
    recovery.py   what a start has to read, and reading it into a shard
"""
