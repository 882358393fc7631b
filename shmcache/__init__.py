"""A Redis-like cache in POSIX shared memory."""
