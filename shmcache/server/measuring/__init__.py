"""Figures for Prometheus: `gather` asks the instance's processes, `families` names what they said. `shmcache.server.metrics` serves it."""
