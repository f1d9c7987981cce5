"""The server: connections, and who asks.

A connection is a ``Session``: one reader, one writer, a task per request, a task per subscription. Nothing that
goes wrong on one connection is noticed on another. The methods are verbs, one small file each, and know only
the ``Session`` and the supervisor's room.

Modules: ``listener`` the socket, ``credentials`` who is calling, ``outbox`` bounded writing, ``session`` one
connection, ``subscription`` one tail, ``methods`` the handlers.
"""
