"""`shmcache stats`: figures of each shard and their total."""
