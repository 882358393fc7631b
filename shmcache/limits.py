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
OPTIONS_BYTES_MAX: Final = 1_024
"""Options in front of a batch."""
CLIENT_TIMEOUT_S: Final = 5.0
"""Default time of one call, retries included."""
ARRIVAL_POLL_MS: Final = 1
"""How often a client of a forwarding replica looks whether its own write has come back."""
WAIT_MARGIN_MS: Final = 50
"""WAIT ends this long before its call does, so that its answer still comes."""
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

# --- CURVE ------------------------------------------------------------------------------------------
ALLOWED_KEYS_MAX: Final = 10_000
"""Public keys in one list."""
ALLOWED_BYTES_MAX: Final = 4 * 1024 * 1024
"""Size of a file of keys."""
ALLOWED_RELOAD_S: Final = 1.0
"""At most so often a server looks whether its list of allowed keys has changed."""
DENIAL_LOG_S: Final = 1.0
"""At most so often a refused key is logged; all are counted."""
HANDSHAKE_BROKEN_S: Final = 1.0
"""A client whose every handshake is broken off for this long takes it for a refusal."""

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
ROUTER_DRAIN_S_MAX: Final = 0.5
"""How long a stopping router waits for replies."""
WORKER_DRAIN_S_MAX: Final = 2.0
"""How long a stopping worker answers what still comes, and waits for disk and replicas to release replies."""
WORKER_DRAIN_QUIET_MS: Final = 50
"""It ends when for so long nothing came: who read the directory before it said so has sent by then."""
RESTART_STEP_S_MAX: Final = 120.0
"""A rolling restart gives up when the successor of a process does not serve by then."""
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
WORKERS_HEAD_START_S: Final = 0.5
"""At a warm start the other processes begin when the workers serve, but no later than this."""
READERS_STOP_S_MAX: Final = 30.0
"""For the hub and the keeper, which may have to wait for a disk."""
PAGE_BYTES: Final = 4_096
"""Write logs are whole pages."""
METRICS_CONNECTIONS_MAX: Final = 16
"""Connections to the metrics endpoint at a time; one more is closed at once."""
METRICS_CONNECTION_S_MAX: Final = 5.0
"""A connection there that is silent for so long is closed."""
METRICS_CACHE_S: Final = 1.0
"""Scrapes within this time get the same figures: no number of scrapers costs a worker more than a call a second."""
METRICS_ANSWERS_S_MAX: Final = 1.0
"""A process that has not told its figures by then is reported as down."""

assert RESTART_DELAY_SERVED_S_MAX <= RESTART_DELAY_S_MAX
assert TICK_MS_UNFINISHED < TICK_MS_BUSY < TICK_MS_MAX

# --- transactions over several shards ---------------------------------------------------------------
TRANSACTION_LEASE_MS: Final = 200
"""How long a shard is held for the decision of whoever carries out a transaction; then the first shard decides that there is none."""
TRANSACTION_LOOK_MS: Final = 10
"""How often one of the other shards looks whether the first has decided."""
TRANSACTION_HELD_S_MAX: Final = 5.0
"""A shard that has no decision by then, because the first shard's worker does not come back, gives its part up."""
TRANSACTION_OUTCOMES_MAX: Final = 10_000
"""Transactions whose end a worker remembers, for a question that is asked again."""
TRANSACTION_ASIDE_MESSAGES_MAX: Final = 10_000
"""Messages that wait for a shard that is held; more are refused, for their senders to try again."""
TRANSACTION_ASIDE_BYTES_MAX: Final = 64 * 1024 * 1024
TRANSACTION_CALL_BYTES_MAX: Final = 4_096
"""Of the calls that end what is held."""

assert TRANSACTION_LOOK_MS < TRANSACTION_LEASE_MS < TRANSACTION_HELD_S_MAX * 1000

# --- replication ------------------------------------------------------------------------------------
REPLICAS_MAX: Final = 32
"""Replicas that one instance ships to."""
PEERS_MAX: Final = 16
"""Instances that replicate each other."""
FRAME_BYTES_MAX: Final = 1 << 20
"""Log records in one published frame, a larger group or value excepted."""
FETCH_BYTES_MAX: Final = 1 << 20
"""Log records in one answer to a replica that has a gap."""
FETCH_BYTES_MIN: Final = 16 << 10
"""A replica that gets no answer asks for half as much, down to this: the less is on the wire, the sooner it comes undamaged."""
SLICE_BYTES_MAX: Final = 64 << 10
"""Entries in one slice of a full copy: the relay ships no log while it reads one."""
SLICES_IN_FLIGHT: Final = 4
"""Slices that a replica asks for ahead."""
PENDING_BYTES_MAX: Final = 64 << 20
"""Published frames that a replica keeps for one shard while an older gap is being fetched."""
APPLY_BYTES_IN_FLIGHT_MAX: Final = 16 << 20
"""Records that were given to a replica's own worker and are not applied yet; above it the relay stops reading."""
APPLY_PARTS_IN_FLIGHT: Final = 2
"""Messages that a replica's own worker has at a time: one that it applies, and the next."""
COPIED_FRAME_BYTES_MAX: Final = 64 << 10
"""Smaller frames are copied into ZeroMQ's memory, larger ones lent to it."""
TIMELINE_SAMPLES_MAX: Final = 2_048
"""Moments of a log that a relay remembers, to tell how long a replica has been behind."""
REVIEW_MS: Final = 5
"""How often a relay counts which of its replicas are there and close."""
PUBLISH_QUEUE_FRAMES: Final = 1_000
"""Frames that ZeroMQ queues for one slow replica; what it loses it fetches from the ring."""
HEARTBEAT_MS: Final = 100
"""Pause between two heartbeats of each log: they tell a replica what it has not got, and how current it is."""
ACK_PAUSE_MS: Final = 0.5
"""A replica that is busy applying acknowledges no more often than this; one that has applied everything, at once."""
ACK_PAUSE_MS_MAX: Final = 500
"""A replica that has nothing to acknowledge still says this often that it lives."""
LINK_SILENCE_MS_MAX: Final = 3_000
"""Without a heartbeat for this long a link is down; a replica without an acknowledgement as well."""
LINK_RETRY_MS: Final = 250
"""Pause before a link that failed is tried again; doubles up to LINK_RETRY_MS_MAX."""
LINK_RETRY_MS_MAX: Final = 2_000
FETCH_RETRY_MS: Final = 1_000
"""An answer of the upstream that has not come by then is asked for again."""
ANSWER_S_MIN: Final = 1.0
"""A relay that has answered nothing for so long is connected to anew: a damaged length leaves a connection waiting for ever. Twice the time that
the last answer took, if that is more.
"""
ANSWER_S_MAX: Final = 8.0
RECONNECTS_MAX: Final = 10
"""Connections to a relay that bring no answer, after which the link is given up and begins anew."""
LOG_SILENCE_MS_MAX: Final = 1_000
"""Without a heartbeat for this long the log is subscribed to anew, once."""
AWAY_MS: Final = 500
"""A relay that did not run for longer does not count that time as the others' silence."""
ASKED_MAX: Final = 1_000
"""Requests to an upstream whose answers are remembered to be waited for."""
IDENTITY_SAVE_MS: Final = 100
"""How often a replica notes how far it has come. What it applied since then it applies again: that changes nothing."""
CLOCK_RETRY_MS: Final = 500
"""A question for the primary's clock that is not answered by then is asked again; until the first answer no write is forwarded."""
CLOCK_ASK_MS: Final = 5_000
"""How often it is asked again after an answer: two hosts' clocks run apart by some 50 us a second."""
REPLICATION_LOOK_S: Final = 1.0
"""How often a router looks whether its instance has a relay by now."""
RELAY_POLL_MS: Final = 20
"""Longest sleep of a relay."""
SWITCHOVER_S_MAX: Final = 10.0
"""Time for the replica to catch up while the primary takes no writes; then the primary goes on."""
MARK_SLICE_US: Final = 2_000
"""Time that one slice of marking or sweeping may hold a shard."""
HELD_REPLIES_MAX: Final = 100_000
"""Replies that a worker holds back until replicas have acknowledged."""

assert HEARTBEAT_MS * 5 < LOG_SILENCE_MS_MAX < LINK_SILENCE_MS_MAX
assert ACK_PAUSE_MS_MAX < AWAY_MS * 2
assert FETCH_BYTES_MIN < FETCH_BYTES_MAX
assert ANSWER_S_MIN < ANSWER_S_MAX
assert ACK_PAUSE_MS_MAX * 4 < LINK_SILENCE_MS_MAX
assert SLICE_BYTES_MAX <= FRAME_BYTES_MAX
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
CHANNEL_STREAMS_MAX: Final = 16_384
"""Connections to a hub's plain unix socket; one more is closed at once."""
CHANNEL_STREAM_TOPICS_MAX: Final = 4 * CHANNEL_SUBSCRIPTIONS_MAX
"""Topics and probes of one such connection; one more ends it."""
CHANNEL_STREAM_READ_BYTES: Final = 256 * 1024
"""What one read from such a connection takes: the others' turn comes after it."""

assert CHANNEL_LINK_S < CHANNEL_LINK_LOST_S

# --- persistence ------------------------------------------------------------------------------------
BLOCK_BYTES_MAX: Final = (2 << 30) + (64 << 20)
"""Records in one block of a file, stored or not: as large as the largest group that a log can ship."""
FILE_META_BYTES_MAX: Final = 1 << 20
"""Text in a file's header."""
MANIFEST_BYTES_MAX: Final = 32 << 20
"""Libraries of functions stand in it: LIBRARIES_BYTES_MAX in base64, and the shards."""
SNAPSHOT_SLICE_BYTES: Final = 64 << 10
"""Entries that the keeper reads at a time: it does nothing else meanwhile."""
SNAPSHOT_BLOCK_BYTES: Final = 1 << 20
"""Entries in one block of a snapshot, before compression."""
SNAPSHOT_QUEUE_BLOCKS: Final = 8
"""Blocks that wait to be compressed and written; with more the walk waits."""
RESTORE_QUEUE_BLOCKS: Final = 8
"""Blocks that are read and decompressed ahead of what is applied."""
SEGMENTS_MAX: Final = 100_000
"""Segments of one append-only file: the oldest ones go when a snapshot has what is in them."""
KEEPER_POLL_MS: Final = 20
"""Longest sleep of a keeper that has something to do at a time."""
SYNC_MS: Final = 1_000
"""Between two syncs with `aof everysec`."""
UNSYNCED_BYTES_MAX: Final = 8 << 20
"""With more the next sync of the append-only file begins at once, unless one is under way."""
PERSISTENCE_RETRY_MS: Final = 1_000
"""After a full disk: how often it is tried again."""
DURABLE_WAIT_S_MAX: Final = 10.0
"""A reply that waits for the disk waits no longer than this."""
DATA_KEYS_MAX: Final = 16
"""Keys in a key file: the one that encrypts, and older ones."""
KEY_FILE_BYTES_MAX: Final = 16 << 10
ARCHIVE_PART_BYTES: Final = 8 << 20
"""Of an object, sent or fetched at a time."""
ARCHIVE_PARTS_AT_ONCE: Final = 4
"""Parts of one object that are under way together."""
ARCHIVE_FETCHES_AT_ONCE: Final = 4
"""Objects that a restore fetches together."""
ARCHIVE_TIMEOUT_S: Final = 120.0
"""For one request to an object store, with the part that it carries; and for all attempts at one together."""
ARCHIVE_RETRIES: Final = 5
"""Of one request, by a restore, with growing pauses."""
ARCHIVE_RETRY_S: Final = 1.0
"""First pause of the archiver after an error; it doubles up to ARCHIVE_RETRY_S_MAX."""
ARCHIVE_RETRY_S_MAX: Final = 60.0
ARCHIVE_STOP_S: Final = 5.0
"""At an ordered stop: how long the keeper waits for the last segment to be archived."""
ARCHIVE_HELD_SEGMENTS_MAX: Final = 128
"""Segments that stay on disk because they are not archived yet; with more the oldest go."""
ARCHIVE_SAY_S: Final = 5.0
"""Between two reports of how far a restore is."""

# --- RESP port --------------------------------------------------------------------------------------
RESP_PROCESSES_MAX: Final = 64
RESP_CLIENTS_MAX: Final = 100_000
RESP_BULK_BYTES_MAX: Final = 512 * 1024 * 1024
"""One argument of a command."""
RESP_ARGUMENTS_MAX: Final = 1024 * 1024
"""Arguments of one command."""
RESP_INLINE_BYTES_MAX: Final = 64 * 1024
"""A line: an inline command, or the length of an array or argument."""
RESP_OUTPUT_HIGH_BYTES: Final = 1024 * 1024
"""With more waiting to be sent, no further command of that client is executed."""
RESP_PUSHED_BYTES_MAX: Final = 32 * 1024 * 1024
"""Messages that wait for a slow subscriber; with more it is closed."""
RESP_PENDING_COMMANDS_MAX: Final = 10_000
"""Replies that one client waits for; those of consecutive commands with one key count as one."""
RESP_PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes read from one client while commands of it are with the workers; with more the gateway stops reading."""
RESP_TIMEOUT_S: Final = 5.0
"""For one message to a worker, retries included."""
RESP_REVIEW_MS: Final = 50
"""How often the gateway looks whether a worker that it waits for was replaced."""
RESP_BIND_S_MAX: Final = 3.0
"""How long a port that is still taken is waited for."""
RESP_SLOWLOG_ENTRIES_MAX: Final = 100_000
RESP_SLOWLOG_WORDS_MAX: Final = 32
RESP_SLOWLOG_WORD_BYTES_MAX: Final = 128
RESP_QUEUED_COMMANDS_MAX: Final = 100_000
"""Commands of one MULTI."""
RESP_LOG_BYTES_MAX: Final = 256 * 1024
"""Of one shard's write log in one turn of a gateway's loop."""
RESP_LOG_LOOK_MS: Final = 100
"""A gateway that waits for changes looks at the logs so often even if no worker rings: one that was killed cannot."""
RESP_LOG_BLIND_MS: Final = 20
"""So often it looks at the keys themselves when a log has no place for one more reader."""
RESP_LOG_LINGER_S: Final = 2.0
"""How long the logs are still read after nobody needs them any more."""
RESP_TRIES_MAX: Final = 64
"""Waiting clients of one key that are tried in one message."""
RESP_TRACKED_KEYS_MAX: Final = 1_000_000
"""Keys of which a gateway remembers who read them; with more the oldest are said to be invalid (CONFIG SET tracking-table-max-keys)."""
RESP_TRACKING_PREFIXES_MAX: Final = 10_000
"""CLIENT TRACKING ON BCAST PREFIX ...: of one client."""

assert RESP_OUTPUT_HIGH_BYTES < RESP_PUSHED_BYTES_MAX

# --- scripts ----------------------------------------------------------------------------------------
SCRIPT_BYTES_MAX: Final = 1 << 20
"""Text of one script or library."""
SCRIPTS_MAX: Final = 10_000
"""Scripts that a worker keeps; with more those that have not been used for longest go."""
SCRIPTS_BYTES_MAX: Final = 32 << 20
"""Their texts together."""
SCRIPT_MEMORY_BYTES_MAX: Final = 64 << 20
"""What Lua may use in one worker: all scripts that it keeps, and what the one that runs makes."""
SCRIPT_HOOK_INSTRUCTIONS: Final = 10_000
"""Instructions of Lua between two looks at the clock."""
SCRIPT_GRACE_S: Final = 1.0
"""A script that does not end by itself so long after its time (it is inside one function of Lua) ends with its worker, which is started again."""
SCRIPT_NOTICE_S: Final = 0.05
"""A script that runs for longer can be found, and ended, by SCRIPT KILL."""
SCRIPT_RESULT_ITEMS_MAX: Final = 1_000_000
"""Elements of a script's result, all levels together."""
SCRIPT_RESULT_BYTES_MAX: Final = 64 << 20
SCRIPT_DEPTH_MAX: Final = 100
"""Levels of a script's result, or of what cjson and cmsgpack are given."""
SCRIPT_PATTERN_BYTES_MAX: Final = 4_096
"""A pattern for string.find and its like: Lua matches it recursively."""
SCRIPT_COROUTINES_NESTED_MAX: Final = 50
"""Coroutines that resume each other."""
LIBRARIES_MAX: Final = 1_000
LIBRARIES_BYTES_MAX: Final = 16 << 20
"""Texts of all libraries of functions together."""
LIBRARIES_LOOK_MS: Final = 100
"""How often the keeper looks whether they have changed."""
LIBRARIES_ASK_MS: Final = 1_000
"""How often a replica asks its primary the same."""

# --- moving data in and out -------------------------------------------------------------------------
MOVED_RECORD_BYTES_MAX: Final = 1 << 30
"""One record of an export: a value of 512 MiB as base64, its key, and the framing."""
MOVED_PAGE_ELEMENTS: Final = 1_000
"""Elements of a collection that are asked for, or written, at a time."""
IMPORT_BATCH_COMMANDS: Final = 1_000
IMPORT_BATCH_BYTES: Final = 4 << 20
"""Keys and values of one batch of an import, a larger single one excepted."""
REDIS_PAGE_KEYS_MAX: Final = 10_000
"""Keys that one SCAN of a Redis is asked for."""
IMPORT_STATE_S: Final = 1.0
"""How often an import from a Redis notes how far it has come."""
REDIS_TIMEOUT_S: Final = 30.0
"""A Redis that has not answered by then is taken for gone."""

assert IMPORT_BATCH_COMMANDS <= CLIENT_BATCH_COMMANDS_MAX
assert IMPORT_BATCH_BYTES <= REQUEST_BYTES_SOFT_MAX

# Users of the RESP port.
ACL_USERS_MAX: Final = 10_000
ACL_RULES_MAX: Final = 1_000
"""Rules on commands, keys and channels of one user, or of one of its selectors."""
ACL_SELECTORS_MAX: Final = 32
ACL_PASSWORDS_MAX: Final = 32
ACL_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
ACL_LOG_ENTRIES: Final = 128
ACL_LOG_ENTRIES_MAX: Final = 10_000
ACL_LOG_SHOWN: Final = 10
ACL_LOG_OBJECT_CHARS_MAX: Final = 128
ACL_PASSED_CACHED: Final = 256
"""Sets of rights that a worker keeps in a form that it can ask, of users whose scripts it runs."""
ACL_PASSED_CACHED_BYTES_MAX: Final = 64 * 1024
"""Larger ones are read anew each time."""
ACL_GENPASS_BITS_MAX: Final = 4_096
RESP_LOGIN_ARGUMENTS_MAX: Final = 10
"""Arguments of a request of a client that has not logged in yet."""
RESP_LOGIN_BULK_BYTES_MAX: Final = 16 * 1024
"""Bytes of one of them."""
RESP_SECRET_BYTES_MAX: Final = 4_096
RESP_HANDSHAKE_S_MAX: Final = 10.0
"""For a TLS handshake of the RESP port."""

# --- collections ------------------------------------------------------------------------------------
COMPACT_ENTRIES_MAX: Final = 65_536
"""Elements of a compact collection, whatever is configured: it is written anew with every change."""
COMPACT_BYTES_MAX: Final = 65_522
"""Bytes of its fields, values and members: as many as an element of a large one may have."""
