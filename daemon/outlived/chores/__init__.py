"""Chores: each wakes, does one bounded thing, sleeps.

``heartbeat`` keeps this owner's lease and hears of stops; ``sweeper`` settles what dead owners left;
``pruner`` removes events that are old enough.
"""
