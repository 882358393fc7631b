"""Scripts in Lua: run by the worker that owns the shard of their keys (docs/scripts.md)."""
