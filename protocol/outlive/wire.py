"""Every type that crosses the socket: what is asked (parameters) and what is so (objects, results).

1. Classes are frozen attrs classes; msgspec turns JSON into them and back, strictly (no coercion).
2. Field names, order and meaning are the wire contract's; additive changes only. (Classes have no slots because
   msgspec writes slots in alphabetical order; it costs nothing measurable.)
3. Times are RFC 3339 strings in UTC with microseconds and ``Z``; ids are lower-case UUIDv7 strings.
4. Checks that need no state stand here, as types; checks that need the daemon's state stand there.

Not here: the list of methods (``methods.py``), errors (``errors.py``), the data of each type of event (``events.py``),
lines and framing (``framing.py``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

import attrs
from msgspec import Meta, Struct

PROTOCOL_VERSION = 1
MAX_CLIENT_LINE = 1 << 20
MAX_SERVER_LINE = 64 << 20
MAX_NESTING = 64
MAX_IN_FLIGHT = 256
MAX_SUBSCRIPTIONS = 1024
MAX_METADATA_BYTES = 16 << 10

# "$" alone would let a trailing newline pass in Python; "(?!\n)" closes that and means nothing elsewhere.
_NAME = r"^[A-Za-z0-9._:@/-]{1,%d}$(?!\n)"
_MAX_BIGINT = 2**63 - 1

ChatId = Annotated[str, Meta(pattern=_NAME % 128, description="1 to 128 of A-Z a-z 0-9 . _ : @ / -")]
Workspace = Annotated[str, Meta(pattern=_NAME % 64, description="1 to 64 of A-Z a-z 0-9 . _ : @ / -")]
RunId = Annotated[
    str,
    Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)", description="a UUIDv7 in lower case"),
]
Key = Annotated[str, Meta(min_length=1, max_length=128)]
ShortText = Annotated[str, Meta(max_length=1024)]
PageSize = Annotated[int, Meta(ge=1, le=200)]
Seq = Annotated[int, Meta(ge=0, le=_MAX_BIGINT)]
Argv = Annotated[list[str], Meta(min_length=1)]
Timestamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]

Status = Literal["queued", "pending", "running", "waiting", "succeeded", "failed", "aborted"]
End = Literal["succeeded", "failed", "aborted"]
OwnerLoss = Literal["abort", "resume"]
StartTrigger = Literal["user", "api"]
OnActive = Literal["reject", "join"]
StopOutcome = Literal["already_settled", "stopped", "stopping"]
MessageRole = Literal["user", "assistant", "system"]
MessageStatus = Literal["streaming", "completed", "failed", "aborted"]
ServerState = Literal["serving", "draining", "degraded"]
OwnerState = Literal["living", "expired", "dead"]
DatabaseState = Literal["ok", "degraded"]
LimitHolder = Literal["cgroup", "rlimit", "none"]
TailEndReason = Literal["settled", "unsubscribed", "caught_up", "draining", "cursor_expired"]
ErrorCode = Literal[
    "exit_status", "signal", "exception", "owner_lost", "too_many_attempts", "nondeterminism", "process_lost",
    "output_limit", "agent_unavailable", "shutdown", "forced", "limit",
]  # fmt: skip
_ERROR_FIELDS = {
    "code": {"enum": list(get_args(ErrorCode))},
    "message": {"type": "string"},
    "exit_status": {"type": "integer"},
    "signal": {"type": "string"},
    "exception": {"type": "string"},
    "limit": {"type": "string"},
}
RunError = Annotated[
    dict[str, Any], Meta(extra_json_schema={"properties": _ERROR_FIELDS, "required": ["code", "message"]})
]
JsonSchema: TypeAlias = dict[str, Any]


# ---------------------------------------------------------------- objects


@attrs.frozen(slots=False)
class Usage:
    """What a run has consumed so far; null while unknown. Money is integer micro-USD."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cost_micro_usd: int | None = None


@attrs.frozen(slots=False)
class Run:
    """One agent turn in one chat, as it is now."""

    id: str
    workspace: str
    chat_id: str
    position: int
    agent: str | None
    command: list[str] | None
    status: Status
    trigger: str
    created_by: str | None
    message_id: str
    attempt: int
    epoch: int
    owner: str | None
    step_count: int
    first_seq: int
    last_seq: int
    error: RunError | None
    usage: Usage
    metadata: dict[str, Any]
    detached: bool
    on_owner_loss: OwnerLoss
    stop_requested_at: Timestamp | None
    stop_reason: str | None
    created_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None
    updated_at: Timestamp


@attrs.frozen(slots=False)
class Message:
    """One message of a chat. ``content`` is capped; ``truncated`` says so; the run's log keeps all."""

    id: str
    chat_id: str
    run_id: str | None
    position: int
    role: MessageRole
    status: MessageStatus
    content: str
    truncated: bool
    parts: list[dict[str, Any]]
    created_at: Timestamp
    updated_at: Timestamp


@attrs.frozen(slots=False)
class Chat:
    """A conversation: a slot for one active run, and an order of messages."""

    id: str
    workspace: str
    title: str | None
    metadata: dict[str, Any]
    active_run_id: str | None
    last_run_id: str | None
    created_at: Timestamp
    updated_at: Timestamp


@attrs.frozen(slots=False)
class Event:
    """One row of a run's log."""

    run_id: str
    seq: int
    at: Timestamp
    type: str
    data: dict[str, Any]


@attrs.frozen(slots=False)
class AgentInfo:
    """An agent that clients may name. ``in_cwd``: it is meant to work in its caller's directory, so send ``cwd``."""

    name: str
    kind: str
    description: str
    in_cwd: bool = False


@attrs.frozen(slots=False)
class PeerInfo:
    """Who the daemon thinks is calling."""

    uid: int
    gid: int
    user: str | None


@attrs.frozen(slots=False)
class OwnerInfo:
    """One registration of one daemon of this database. ``answering``: it is the daemon that says so.

    The database's clock judges: ``lease_age_seconds`` is the time since the owner's last sign of life; beyond
    ``lease_seconds`` it is expired. ``runs`` counts what it has not settled.
    """

    id: str
    state: OwnerState
    answering: bool
    host: str
    pid: int
    version: str
    socket: str
    registered_at: Timestamp
    lease_seconds: float
    lease_age_seconds: float
    dead_at: Timestamp | None
    dead_reason: str | None
    runs: int


# ---------------------------------------------------------------- parameters


@attrs.frozen(slots=False)
class NoParams:
    """No parameters."""


@attrs.frozen(slots=False)
class ServerDescribeParams:
    """Without ``method``, all of them."""

    method: str | None = None


@attrs.frozen(slots=False)
class ServerDrainParams:
    """``grace_seconds``: how long the runs may go on, instead of ``[run] drain_seconds``."""

    grace_seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None


@attrs.frozen(slots=False)
class RunStartParams:
    """Exactly one of ``agent`` and ``command``. ``input`` is text or a list of parts with a ``type``."""

    agent: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    command: Argv | None = None
    input: str | list[dict[str, Any]] = ""
    chat_id: ChatId | None = None
    workspace: Workspace = "default"
    trigger: StartTrigger = "user"
    on_active: OnActive = "reject"
    idempotency_key: Key | None = None
    detached: bool = True
    on_owner_loss: OwnerLoss = "abort"
    created_by: ShortText | None = None
    cwd: ShortText | None = None
    env: dict[str, str] | None = None
    metadata: dict[str, Any] | None = None


@attrs.frozen(slots=False)
class RunIdParams:
    """One run, optionally only if it is in that workspace."""

    run_id: RunId
    workspace: Workspace | None = None


@attrs.frozen(slots=False)
class RunLatestParams:
    """The chat whose newest run is asked for."""

    chat_id: ChatId
    workspace: Workspace = "default"


@attrs.frozen(slots=False)
class RunListParams:
    """Filters are combined with "and"; absent ones filter nothing."""

    workspace: Workspace | None = None
    chat_id: ChatId | None = None
    status: list[Status] | None = None
    agent: str | None = None
    limit: PageSize = 50
    cursor: str | None = None


@attrs.frozen(slots=False)
class RunStopParams:
    """Exactly one of ``run_id`` and ``chat_id``."""

    run_id: RunId | None = None
    chat_id: ChatId | None = None
    workspace: Workspace | None = None
    reason: ShortText | None = None
    wait_seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0


@attrs.frozen(slots=False)
class RunWaitParams:
    """Without ``timeout_seconds`` the wait has no limit."""

    run_id: RunId
    workspace: Workspace | None = None
    timeout_seconds: Annotated[float, Meta(ge=0)] | None = None


@attrs.frozen(slots=False)
class RunTailParams:
    """``after_seq`` is exclusive; 0 = from the beginning; absent = a snapshot and what follows."""

    run_id: RunId
    workspace: Workspace | None = None
    after_seq: Seq | None = None
    follow: bool = True


@attrs.frozen(slots=False)
class RunUntailParams:
    """A subscription of this connection."""

    subscription: str


@attrs.frozen(slots=False)
class ChatCreateParams:
    """An absent ``chat_id`` asks the daemon to make one."""

    chat_id: ChatId | None = None
    workspace: Workspace = "default"
    title: ShortText | None = None
    metadata: dict[str, Any] | None = None


@attrs.frozen(slots=False)
class ChatGetParams:
    """One chat."""

    chat_id: ChatId
    workspace: Workspace = "default"


@attrs.frozen(slots=False)
class ChatListParams:
    """Most recently active first; without ``workspace``, of every workspace the peer may use."""

    workspace: Workspace | None = None
    limit: PageSize = 50
    cursor: str | None = None


@attrs.frozen(slots=False)
class ChatMessagesParams:
    """Oldest first."""

    chat_id: ChatId
    workspace: Workspace = "default"
    limit: PageSize = 50
    cursor: str | None = None


@attrs.frozen(slots=False)
class CancelRequestParams:
    """The id of a request in flight on this connection."""

    id: str | int


# ---------------------------------------------------------------- results


@attrs.frozen(slots=False)
class Containment:
    """What a daemon can hold the processes of its runs with. ``controllers``: those that set limits for its cgroups."""

    cgroups: Annotated[bool, Meta(description="whether each run has a cgroup of its own")]
    controllers: list[str]
    kill: Annotated[
        Literal["cgroup", "descendants"], Meta(description="what finds the processes that a run leaves")
    ]
    memory: Annotated[LimitHolder, Meta(description="what holds an agent's max_memory")]
    pids: Annotated[LimitHolder, Meta(description="what holds an agent's max_pids; none: it is not held")]


@attrs.frozen(slots=False)
class ServerInfo:
    """Who answers, what it allows, and which agents it has. An older daemon does not say its ``containment``."""

    name: str
    version: str
    protocol: int
    instance_id: str
    host: str
    pid: int
    started_at: Timestamp
    state: ServerState
    limits: dict[str, int]
    agents: list[AgentInfo]
    peer: PeerInfo
    workspaces: list[str] | None
    containment: Containment | None = None


@attrs.frozen(slots=False)
class ServerDraining:
    """The order is taken: how many runs are active now."""

    state: ServerState
    runs_active: int


@attrs.frozen(slots=False)
class OwnerList:
    """The living first, then the dead: those of the last day, and those that still have runs; at most 200."""

    owners: list[OwnerInfo]


@attrs.frozen(slots=False)
class ServerStats:
    """How a daemon is doing. Runs are those that this daemon owns, or has owned; null: there was nothing to measure."""

    uptime_seconds: float
    database: DatabaseState
    rss_bytes: Annotated[int, Meta(description="memory of the process, without Postgres's")]
    cpu_seconds: Annotated[
        float, Meta(description="that the process has used, without Postgres and commands")
    ]
    connections: int
    subscribers: Annotated[int, Meta(description="tails at work, of all connections")]
    subscriber_lag_events: Annotated[
        int, Meta(description="committed, and not yet handed to the connection of the slowest subscriber")
    ]
    runs_pending: int
    runs_running: int
    runs_waiting: int
    runs_started_total: int
    runs_taken_total: Annotated[int, Meta(description="taken over from dead owners")]
    runs_claimed_total: Annotated[int, Meta(description="released ones whose next attempt began here")]
    runs_released_total: int
    runs_succeeded_total: int
    runs_failed_total: int
    runs_aborted_total: int
    events_total: Annotated[int, Meta(description="committed")]
    commits_total: int
    commit_items_total: Annotated[
        int, Meta(description="an item is a start, a settlement, or what a run has said meanwhile")
    ]
    commit_items_p50: Annotated[int, Meta(description="items that shared a commit")] | None
    commit_items_p99: int | None
    commit_p50_seconds: (
        Annotated[float, Meta(description="from the first statement to the last answer")] | None
    )
    commit_p99_seconds: float | None
    queue_items: Annotated[int, Meta(description="not committed, those being committed among them")]
    queue_bytes: int
    queue_oldest_seconds: Annotated[float, Meta(description="age of the oldest item that is not committed")]
    loop_busy_ratio: Annotated[float, Meta(description="0 to 1: of the last one to two minutes")]
    loop_longest_seconds: Annotated[float, Meta(description="the longest that nothing else went on, lately")]
    loop_blocks_total: Annotated[int, Meta(description="times of more than 100 ms; the log names who it was")]
    replaced_characters_total: Annotated[
        int, Meta(description="NUL and lone surrogates that became U+FFFD in what agents said")
    ]


@attrs.frozen(slots=False)
class MethodDescription:
    """One method: what it is for, JSON Schemas of its params and its result, and the types of its errors."""

    description: str
    params: JsonSchema
    result: JsonSchema
    errors: list[str]


@attrs.frozen(slots=False)
class ErrorDescription:
    """One ``data.type`` of errors."""

    code: int
    retryable: bool
    description: str


class ServerDescription(Struct, frozen=True, rename={"definitions": "$defs"}):
    """The contract as JSON Schema; a ``$ref`` is resolved in this object.

    No attrs class, because ``$defs`` is no name in Python.
    """

    protocol: int
    methods: dict[str, MethodDescription]
    errors: dict[str, ErrorDescription]
    notifications: dict[str, JsonSchema]
    events: dict[str, JsonSchema]
    definitions: dict[str, JsonSchema]


@attrs.frozen(slots=False)
class RunStarted:
    """``created`` is false when a key or ``join`` returned a run that was there."""

    run: Run
    created: bool


@attrs.frozen(slots=False)
class RunFound:
    """A run and its assistant message."""

    run: Run
    message: Message


@attrs.frozen(slots=False)
class RunAndMessage:
    """A run and its assistant message; both null for a chat without runs."""

    run: Run | None
    message: Message | None


@attrs.frozen(slots=False)
class RunPage:
    """Newest first; ``next_cursor`` is null on the last page."""

    runs: list[Run]
    next_cursor: str | None


@attrs.frozen(slots=False)
class RunStopped:
    """What the stop found or did."""

    outcome: StopOutcome
    run: Run


@attrs.frozen(slots=False)
class RunWaited:
    """``settled`` is false when the timeout came first."""

    run: Run
    message: Message
    settled: bool


@attrs.frozen(slots=False)
class RunTailed:
    """The one reply of a tail; ``run/event`` notifications after ``as_of_seq`` follow it."""

    subscription: str
    run: Run
    message: Message | None
    as_of_seq: int


@attrs.frozen(slots=False)
class ChatCreated:
    """``created`` is false when the chat was there."""

    chat: Chat
    created: bool


@attrs.frozen(slots=False)
class ChatFound:
    """One chat."""

    chat: Chat


@attrs.frozen(slots=False)
class ChatPage:
    """Most recently active first."""

    chats: list[Chat]
    next_cursor: str | None


@attrs.frozen(slots=False)
class MessagePage:
    """Oldest first."""

    messages: list[Message]
    next_cursor: str | None


@attrs.frozen(slots=False)
class Empty:
    """Nothing more to say than that it was done."""


# ---------------------------------------------------------------- notifications from the server


@attrs.frozen(slots=False)
class RunEvent:
    """One event of a run, delivered to one subscription."""

    subscription: str
    run_id: str
    seq: int
    at: Timestamp
    type: str
    data: dict[str, Any]


@attrs.frozen(slots=False)
class TailEnd:
    """The last word of a subscription; ``last_seq`` is the last delivered one."""

    subscription: str
    run_id: str
    reason: TailEndReason
    last_seq: int
