"""``outlived install-units``: the systemd units, with the paths of this installation in them.

A leaf. 1. What is installed is what lies in ``systemd/`` of the sources, but for the program's path. 2. It is written
where packages write (``/usr/local/lib``, or a user's own directory), never over what somebody edits (``/etc``): changes
belong into drop-ins. 3. A unit that could not work is refused: the service sees no /home, and its user must be able to
get at the program. 4. Nothing is enabled or started; that is the next line of the README.

Not here: what stands in the units and why (the units, docs/operations.md).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path, PurePosixPath

import attrs

STATED_PROGRAM = "/usr/local/bin/outlived"
"""How the program is called in the units as they are shipped."""
SHARE = "share/outlived/systemd"
_UNSEEN = ("/home", "/root", "/run/user")
_SYSTEM = {
    "outlived.service": "usr/local/lib/systemd/system",
    "outlived.socket": "usr/local/lib/systemd/system",
    "sysusers.d/outlived.conf": "usr/local/lib/sysusers.d",
    "tmpfiles.d/outlived.conf": "usr/local/lib/tmpfiles.d",
}
_USER = ("user/outlived.service", "user/outlived.socket")


class UnitsRefused(Exception):
    """The units cannot be installed; the message says why."""


@attrs.frozen
class Plan:
    """What is to be done: files with their texts, then commands."""

    files: dict[Path, str]
    commands: list[list[str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``install-units``."""
    parser.add_argument("--user", action="store_true", help="for a daemon of your own, not the system's")
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be written, and write nothing"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="write below DIR, and run nothing (for packages)"
    )
    parser.add_argument(
        "--drop-in",
        metavar="NAME",
        action="append",
        default=[],
        help="add one of the examples: survive-restarts, sandboxing-agents, database-credential, dynamic-user",
    )


def install_units(options: argparse.Namespace) -> int:
    """Write the files and let systemd read them."""
    try:
        plan = make_plan(find_program(), options.user, options.root, options.drop_in)
        if options.dry_run:
            _show(plan)
        else:
            _carry_out(plan)
    except (UnitsRefused, OSError, subprocess.CalledProcessError) as error:
        print(f"outlived: {error}", file=sys.stderr)
        return 1
    return 0


def find_program() -> Path:
    """The program of this installation. Raises UnitsRefused."""
    called = Path(sys.argv[0]).absolute()
    for program in (called, Path(sysconfig.get_path("scripts"), "outlived")):
        if program.name == "outlived" and os.access(program, os.X_OK):
            return program
    raise UnitsRefused(
        "cannot install units: there is no program outlived beside this Python; install the package"
    )


def find_source() -> Path:
    """Where the units lie as they are shipped: in the sources, if this is run from them. Raises UnitsRefused."""
    sources = Path(__file__).parents[2] / "systemd"
    if (sources / "outlived.service").exists():
        return sources
    try:
        files = metadata.files("outlive") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if str(PurePosixPath(file)).endswith(f"{SHARE}/outlived.service"):
            return Path(os.path.normpath(str(file.locate()))).parent
    raise UnitsRefused(
        f"cannot find the units: {SHARE} is not in this installation; install the package again"
    )


def make_plan(program: Path, user: bool, root: Path | None, drop_ins: list[str]) -> Plan:
    """What ``install-units`` does. Raises UnitsRefused."""
    source = find_source()
    if not user and root is None:
        for each in (program, Path(sys.executable)):
            _check_reach(each)
        if os.geteuid() != 0:
            raise UnitsRefused(
                "cannot install units for the system: you are not root; for your own daemon: --user"
            )
    below = root or Path("/")
    if user:
        places = {source / name: _find_user_units(below, root) for name in _USER}
        edited = _find_user_units(below, root) / "outlived.service.d"
    else:
        places = {source / name: below / place for name, place in _SYSTEM.items()}
        edited = below / "etc/systemd/system/outlived.service.d"
    examples = source / ("user/drop-ins" if user else "drop-ins")
    for name in drop_ins:
        example = examples / f"{name}.conf"
        if not example.is_file():
            known = ", ".join(sorted(each.stem for each in examples.glob("*.conf")))
            raise UnitsRefused(f"cannot add drop-in {name}: there is none; there are: {known}")
        places[example] = edited
    files = {place / file.name: _fit(file.read_text("utf-8"), program) for file, place in places.items()}
    return Plan(files, [] if root is not None else _list_commands(user=user))


def _fit(text: str, program: Path) -> str:
    quoted = str(program).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return text.replace(STATED_PROGRAM, f'"{quoted}"' if " " in quoted else quoted)


def _check_reach(program: Path) -> None:
    """The service's user runs it, and sees no home."""
    place = program.resolve()
    hidden = next((each for each in _UNSEEN if str(place).startswith(f"{each}/")), None)
    if hidden is not None:
        raise UnitsRefused(
            f"cannot install units for {place}: the service does not see {hidden} (ProtectHome=); install outlive "
            "somewhere else, such as /opt/outlive, with a Python that is not in a home either"
        )
    for parent in (*program.parents, *place.parents):
        if not parent.stat().st_mode & 0o001:
            raise UnitsRefused(
                f"cannot install units for {program}: the service's user cannot enter {parent}"
            )


def _find_user_units(below: Path, root: Path | None) -> Path:
    if root is not None:
        return below / "usr/local/lib/systemd/user"
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else Path.home() / ".config") / "systemd/user"


def _list_commands(*, user: bool) -> list[list[str]]:
    """What lets systemd take notice; nothing where there is none."""
    if not Path("/run/systemd/system").is_dir():
        return []
    if user:
        return [["systemctl", "--user", "daemon-reload"]]
    wanted = [
        ["systemd-sysusers", "outlived.conf"],
        ["systemd-tmpfiles", "--create", "outlived.conf"],
        ["systemctl", "daemon-reload"],
    ]
    return [command for command in wanted if shutil.which(command[0])]


def _show(plan: Plan) -> None:
    for path, text in plan.files.items():
        print(f"# {path}\n{text}")
    for command in plan.commands:
        print(f"# then: {' '.join(command)}")


def _carry_out(plan: Plan) -> None:
    for path, text in plan.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_text(text, "utf-8")
        aside.chmod(0o644)
        aside.replace(path)
        print(path)
    for command in plan.commands:
        subprocess.run(command, check=True)
