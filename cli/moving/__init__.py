"""Data on their way in and out: streams that other programs can read and write, Redis' dump files, and a Redis that runs.

    stream.py      the stream of records (docs/persistence.md)
    elements.py    collections, page by page
    reading.py     records of a running instance, or of a data folder
    rdb.py         records of a Redis dump file
    loading.py     records into an instance, in batches
    redis_copy.py  a running Redis into an instance, page by page
    command.py     `shmcache snapshot export`, `import`
    redis_command.py  `shmcache import redis://...`
"""
