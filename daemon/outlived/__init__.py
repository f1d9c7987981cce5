"""The daemon, room by room, in reading order. Imports only point down this list's reverse.

``rules``       pure: the lifecycle table, what a message is, when a lease may be judged
``store``       the only room that speaks SQL; connections, migrations, the embedded Postgres
``journal``     where durable meets live: group commit, hub, tail
``agents``      the kinds of work: what an agent is, what it may do
``supervisor``  the nursery, the abort registry, one run from claim to settle, drain
``chores``      the periodic actors: heartbeat, sweeper
``server``      connections: who asks, and the answers
``house``       opens every room in order and closes them in reverse
``fsck``        beside it: checks a whole database, from a process of its own
"""

__version__ = "0.1.0"
