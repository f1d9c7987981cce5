"""Pure rules: no clock, no loop, no database. What can be decided without asking is decided here.

``run.py`` what a run is; ``lifecycle.py`` the table of what may happen to it; ``message.py`` how a run's
events become its message; ``leases.py`` when an owner may be judged.
"""
