"""Readers of the write log: what replication, persistence and invalidation are made of."""
