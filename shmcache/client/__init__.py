"""The clients, from the caller inwards: `methods` build commands, `session` plans them, `exchange` decides
what is sent and sent again, `routes` know where the shards are; only `channels` (threads) and `loop`
(asyncio) wait and touch sockets.
"""
