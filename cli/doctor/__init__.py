"""`shmcache doctor`: what is wrong with this host, and what to do about it."""
