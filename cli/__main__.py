"""`python -m shmcache.cli`, the same as the command `shmcache`."""

from . import main

main()
