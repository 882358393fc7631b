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
PACKER_BYTES_MAX: Final = 4 * 1024 * 1024
"""Buffer that a process keeps for packing commands."""
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

# --- server: sockets --------------------------------------------------------------------------------
HIGH_WATER_MESSAGES: Final = 20_000
"""Messages that ZeroMQ queues per peer and direction; above it replies to that peer are dropped."""
HANDSHAKE_MS_MAX: Final = 5_000
"""A connection that has not spoken ZeroMQ by then is closed."""
LISTEN_BACKLOG_CONNECTIONS: Final = 4_096
SOCKETS_MAX: Final = 4_096
"""ZeroMQ sockets (not connections) of the router."""
SOCKET_PATH_BYTES_MAX: Final = 107
"""Of a unix socket: sun_path of sockaddr_un, without its closing zero."""

# --- server: loops ----------------------------------------------------------------------------------
TICK_MS_MAX: Final = 100
"""Longest pause between two ticks of an owner that has nothing to do."""
TICK_MS_BUSY: Final = 20
"""Pause between two ticks of an owner that is kept busy."""
TICK_MS_UNFINISHED: Final = 2
"""The same while the last tick left something to do."""
DRAIN_MESSAGES_MAX: Final = 64
"""Messages taken from a socket before the loop looks at anything else."""
ROUTER_POLL_MS: Final = 50
"""How often an idle router looks at the directory and at what waits."""
ROUTER_BACKLOG_BYTES_MAX: Final = 64 * 1024 * 1024
"""Payload that the router holds for one shard whose worker is down."""
ROUTER_DRAIN_POLLS_MAX: Final = 10
"""Polls that a stopping router waits for replies."""
PREDECESSOR_WAIT_S: Final = 5.0
"""How long a new worker waits for a dying one to give up its region."""
ROUTER_STOP_S_MAX: Final = 3.0
WORKER_STOP_S_MAX: Final = 30.0
"""Afterwards the process is killed."""
RESTART_WINDOW_S: Final = 10.0
"""Deaths of a child within this time count as one series."""
RESTART_DELAY_S: Final = 0.1
RESTART_DELAY_S_MAX: Final = 5.0
RESTART_DELAY_SERVED_S_MAX: Final = 0.2
"""For a child that had served before it died: it heals within a second, however often that happens."""
RESTART_FAILED_DEATHS: Final = 5
"""Starts that failed in a row, after which a shard is reported as failed."""
HUB_STOP_S_MAX: Final = 3.0
PAGE_BYTES: Final = 4_096
"""Write logs are whole pages."""

assert RESTART_DELAY_SERVED_S_MAX <= RESTART_DELAY_S_MAX
assert TICK_MS_UNFINISHED < TICK_MS_BUSY < TICK_MS_MAX

# --- pub/sub channels -------------------------------------------------------------------------------
CHANNEL_NAME_BYTES_MAX: Final = 4_096
"""Of a channel's name or a pattern."""
CHANNEL_MESSAGE_BYTES_MAX: Final = 64 * 1024 * 1024
"""What `channel_message_size` may be set to."""
CHANNEL_SUBSCRIPTIONS_MAX: Final = 10_000
"""Channels and patterns of one subscriber object."""
CHANNEL_PATTERNS_MAX: Final = 1_024
"""Different patterns in use at one hub: each new channel name is compared with all of them."""
CHANNEL_TOPICS_MAX: Final = 1_000_000
"""Different topics subscribed to at one hub, its shadow of them in Python."""
CHANNELS_TRACKED_MAX: Final = 100_000
"""Channels whose sequence numbers a hub remembers beyond those that are subscribed to."""
CHANNEL_MATCHES_CACHED_MAX: Final = 10_000
"""Channel names whose matching patterns are remembered."""
CHANNEL_SEEN_MAX: Final = 65_536
"""Messages from other hubs that are remembered, so that one which comes twice is delivered once."""
CHANNEL_HOPS_MAX: Final = 8
"""Hubs that a message passes."""
CHANNEL_UPSTREAMS_MAX: Final = 8
CHANNEL_FORWARDS_MAX: Final = 1_000
"""Messages that wait in a hub's loop to be forwarded."""
CHANNEL_REPLAY_REPLY_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of one reply; the client asks for the rest."""
CHANNEL_STATS_MAX: Final = 100
"""Channels that `stats` names."""
CHANNEL_EVENT_S: Final = 1.0
"""Least time between two warnings of one kind about one channel."""
CHANNEL_CHECK_S: Final = 1.0
"""A subscriber that has heard nothing for so long asks whether it missed something."""
CHANNEL_PROBE_S: Final = 0.5
"""First wait for the answer to such a question before it is asked again."""
CHANNEL_PROBES_MAX: Final = 64
"""Questions of one such check; the next check goes on with the other topics."""
CHANNEL_CONFIRM_S: Final = 1.0
"""How long a hub holds back the confirmation of a subscription until its upstream has confirmed it."""
CHANNEL_LINK_S: Final = 1.0
"""Between two signs of life to an upstream; after CHANNEL_LINK_LOST_S without answer it is looked up
again.
"""
CHANNEL_LINK_LOST_S: Final = 4.0
CHANNEL_TAIL_MS: Final = 5
"""Between two looks at the write logs for key events."""
CHANNEL_RECEIVE_MESSAGES: Final = 10_000
"""Messages that a subscriber's own queue holds; further ones wait at the hub."""
CHANNEL_POLL_MS: Final = 100

assert CHANNEL_LINK_S < CHANNEL_LINK_LOST_S
