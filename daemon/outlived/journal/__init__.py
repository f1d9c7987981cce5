"""The journal: where durable meets live.

Theory of operation. Everything that happens to a run is an *item* handed to one writer. While a commit is in
flight, items queue; the next batch takes all of them: one transaction, one commit; then those who waited are
released, and the hub is told. There is no timer: an idle system commits at once, a busy one batches by itself.

The writer belongs to one owner. Every batch begins by raising the owner's fence, so nothing that a dead owner
still had in its hands can be written after a takeover. If a connection breaks during a commit, the fence's
number says afterwards whether it happened.

Nothing is shown that is not durable: the hub is only ever told about committed events.

Modules: ``items`` what can be asked and answered, ``log`` what the owner knows of each run, ``plan`` the pure
decision, ``writer`` the actor, ``meter`` what it counts, ``hub`` fan-out, ``tail`` reading a log as a cursor.
"""
