"""Every limit of the Python side, units last in its name. The engine's own stand in `shmcache._engine`."""

from typing import Final

# --- wire protocol and clients -------------------------------------------------------------------
HEADER_BYTES: Final = 24
"""Size of a frame's header (docs/protocol.md)."""
MESSAGE_BYTES_MAX: Final = 512 * 1024 * 1024 + 1024 * 1024
"""Largest payload of one message: one value of 512 MiB, its key and the framing."""
REQUEST_BYTES_SOFT_MAX: Final = 64 * 1024 * 1024
"""A client splits MGETs and pipelines so that requests stay below this, one larger command excepted."""
CLIENT_BATCH_COMMANDS_MAX: Final = 10_000
"""A client never puts more commands in one message; the engine's MAX_BATCH_COMMANDS bounds it further."""
CLIENT_TIMEOUT_S: Final = 5.0
"""Default time of one call, retries included."""
CLIENT_POLL_MS: Final = 50
"""How often a waiting local client looks whether the worker it waits for was replaced."""
CLIENT_RETRY_DELAY_MS: Final = 10
"""First pause before a request is tried again; doubles up to CLIENT_RETRY_DELAY_MAX_MS."""
CLIENT_RETRY_DELAY_MAX_MS: Final = 100
CLIENT_RESEND_MS: Final = 500
"""A tcp client asks again for an idempotent command after this long without a reply (doubles each time)."""
CLIENT_OUTSTANDING_MAX: Final = 4096
"""Messages that one channel queues per endpoint before a send is refused."""

assert CLIENT_RETRY_DELAY_MS <= CLIENT_RETRY_DELAY_MAX_MS <= CLIENT_POLL_MS * 2
assert REQUEST_BYTES_SOFT_MAX < MESSAGE_BYTES_MAX
