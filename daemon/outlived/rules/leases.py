"""Leases: when an owner may be believed, and when it may be declared dead.

Theory of operation. An *owner* is one registration of one daemon: a row with a lease. Its heartbeat renews
the lease; every run it works on points at that row, so one renewal covers them all, however many.

The database's clock alone judges a lease (``lease_until < clock_timestamp()``), in SQL, under the row's
lock. What is decided here is what needs no database:

1. *Proof of death.* On the same host an owner is dead if its process is: the same boot and the same pid
   namespace, and no process with that pid *and* those start ticks. Another boot, another pid namespace or
   another host prove nothing: containers share a boot id, and pids are used again.
   A daemon that holds the lock of its home proves every earlier owner of that home dead when the database
   is the home's own embedded one: nobody else can be running on it.
2. *Self-distrust.* An owner counts from the **start** of its last successful renewal, on a clock that counts
   suspended time. After two thirds of the lease it no longer believes that it is the owner, a third before
   anybody else may think so too, and cancels its runs. While its own embedded Postgres is known to be down, or has
   no other owner, nobody can take anything over, so the trust is suspended, not lost.
3. *Grace after a database start.* While Postgres was down no owner could renew. By an expired lease alone no
   owner is declared dead within one lease of the postmaster's start; a proof needs no grace.
4. *Never itself.* An owner does not judge its own row.

Not here: the statements (``store/sql/owners.sql``), the clocks, /proc (``store/identity.py``).
"""

from __future__ import annotations

from enum import Enum

import attrs

TRUST_FRACTION = 2 / 3


@attrs.frozen
class ProcessIdentity:
    """One process, for ever: a pid alone is used again, with its start ticks and its boot it is not."""

    boot_id: str
    pid_namespace: str
    pid: int
    start_ticks: int

    def is_beside(self, other: ProcessIdentity) -> bool:
        """Whether each can see whether the other lives."""
        return (self.boot_id, self.pid_namespace) == (other.boot_id, other.pid_namespace)


class Verdict(Enum):
    """What the process table says about an owner."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


def judge_process(owner: ProcessIdentity, here: ProcessIdentity, start_ticks_now: int | None) -> Verdict:
    """Judge ``owner`` from a process at ``here``; ``start_ticks_now`` of that pid, None if there is none."""
    if (owner.boot_id, owner.pid_namespace) != (here.boot_id, here.pid_namespace):
        return Verdict.UNKNOWN
    return Verdict.ALIVE if start_ticks_now == owner.start_ticks else Verdict.DEAD


def trusts_itself(*, renewal_began: float, now: float, lease_seconds: float, database_down: bool) -> bool:
    """Whether an owner may still act as one. Times in seconds on one clock that counts suspended time."""
    return database_down or now - renewal_began < lease_seconds * TRUST_FRACTION
