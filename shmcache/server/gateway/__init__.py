"""The RESP port: Redis clients in, commands to shared memory and to the workers out (docs/resp.md).

`requests` parses, `connection` keeps the order of one client's replies, `dispatch` decides who answers a command, `lanes` gathers what goes to
the shards, `replies` and `shapes` encode. `session_commands`, `client_commands`, ... answer what concerns the connection or the server.
"""
