"""The smallest daemon: opens the embedded Postgres of a directory, says so on stdout, stays until stdin ends.

    python embedded_daemon.py DIRECTORY [DIRECTORY_OF_PROGRAMS …]

Says one line of JSON: {"dsn", "pid"}, or {"failed"} and exits 1.
"""

import json
import sys
from pathlib import Path

import structlog
import trio

from outlived.store.embedded import EmbeddedFailed, open_embedded


async def main(directory, *programs):
    log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    try:
        async with open_embedded(
            Path(directory), log=log, bin_directories=[Path(each) for each in programs] or None
        ) as server:
            sys.stdout.write(json.dumps({"dsn": server.dsn, "pid": server.pid}) + "\n")
            sys.stdout.flush()
            await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
    except EmbeddedFailed as error:
        sys.stdout.write(json.dumps({"failed": str(error)}) + "\n")
        sys.exit(1)


trio.run(main, *sys.argv[1:])
