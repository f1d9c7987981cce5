"""A machine of our own with a real systemd as PID 1, made on the spot: an overlay of this machine's ``/``.

What is written in it is gone with it. It shares this machine's network and its Python; it has its own processes, users,
services and journal. Everything is run by ``nsenter``, in a session of its own: a stray ``kill 0`` inside reaches nobody
here.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Self

from tests.support.waits import wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_SECONDS = 60
END_SECONDS = 10
_PROGRAMS = ("systemd-nspawn", "nsenter", "mount", "systemctl")


@functools.cache
def find_obstacle() -> str | None:
    """Why there can be no such machine here; None if there can."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    missing = [name for name in _PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"there is no {missing[0]} here (apt install systemd-container)"
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_overlay(Path(place)))
        except subprocess.CalledProcessError as error:
            return f"no overlay of / can be mounted here: {error.stderr.decode().strip()}"
    return None


@contextlib.contextmanager
def _overlay(place: Path):
    """``/`` with a layer in memory above it, mounted below ``place``."""
    layer = place / "layer"
    layer.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3g,mode=755", "tmpfs", layer], check=True, capture_output=True
    )
    try:
        for name in ("up", "work", "root"):
            (layer / name).mkdir()
        options = f"lowerdir=/,upperdir={layer}/up,workdir={layer}/work"
        command = ["mount", "-t", "overlay", "overlay", "-o", options, layer / "root"]
        subprocess.run(command, check=True, capture_output=True)
        try:
            yield layer / "root"
        finally:
            _unmount(layer / "root")
    finally:
        _unmount(layer)


@contextlib.contextmanager
def _own_cgroups(name: str):
    """A cgroup for one container: two that boot in the same would take each other's."""
    here = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    made = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, kind, options, *_ = line.split()
        if kind == "cgroup2" or "name=systemd" in options.split(","):
            path = here.get("" if kind == "cgroup2" else "name=systemd", "/")
            made.append(Path(mounted) / path.lstrip("/") / name)
    for group in made:
        group.mkdir()
    try:
        yield made
    finally:
        for group in made:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()


def _unmount(path: Path) -> None:
    if subprocess.run(["umount", path], check=False, capture_output=True).returncode != 0:
        subprocess.run(["umount", "-l", path], check=False, capture_output=True)


class Container:
    """``with Container() as machine``: booted, until the block ends."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.root = Path()
        """Its ``/``, seen from here."""
        self._leader = 0

    def __enter__(self) -> Self:
        try:
            place = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="olc-", dir="/tmp")))
            self.root = self._stack.enter_context(_overlay(place))
            (self.root / "etc/machine-id").unlink(missing_ok=True)
            (self.root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
            self._boot(place)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _boot(self, place: Path) -> None:
        log, name = place / "nspawn.log", f"olc-{uuid.uuid4().hex[:12]}"
        groups = self._stack.enter_context(_own_cgroups(name))
        enter = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
        with log.open("wb") as said:
            nspawn = subprocess.Popen(
                ["sh", "-c", f'{enter}exec "$@"', "sh", "systemd-nspawn", "-q", "--register=no", "--keep-unit", "-D", self.root, "-M", name,
                 "--console=pipe", "-b", "--", "--unit=basic.target"],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )  # fmt: skip
        self._stack.callback(self._end, nspawn)

        def is_up() -> bool:
            assert nspawn.poll() is None, f"the container ended: {log.read_text(errors='replace')}"
            children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
            self._leader = int(children[0]) if children else 0
            state = self.try_run("systemctl is-system-running").stdout.strip() if children else ""
            return state in {"running", "degraded"}

        wait_until(is_up, BOOT_SECONDS, "systemd has come up in the container")

    def _end(self, nspawn: subprocess.Popen[bytes]) -> None:
        """With its PID 1 every process inside is gone; nothing of it is worth an orderly end."""
        with contextlib.suppress(ProcessLookupError):
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)
            nspawn.wait(END_SECONDS)
        if nspawn.poll() is None:
            os.killpg(nspawn.pid, signal.SIGKILL)
            nspawn.wait(END_SECONDS)

    def command(self, script: str, **environment: str) -> list[str]:
        """The command that runs a shell script inside, as root."""
        inside = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **environment}
        words = [f"{name}={value}" for name, value in inside.items()]
        return ["nsenter", "-t", str(self._leader), "-a", "env", "-i", *words, "sh", "-c", script]

    def try_run(
        self, script: str, seconds: float = 60, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside, whatever its end."""
        return subprocess.run(
            self.command(script, **environment),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=seconds, start_new_session=True,
        )  # fmt: skip

    def run(self, script: str, seconds: float = 60, **environment: str) -> str:
        """Run a shell script inside that must succeed; what it said on stdout."""
        done = self.try_run(script, seconds, **environment)
        assert done.returncode == 0, f"{script}\nended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, script: str, **options) -> subprocess.Popen[str]:
        """Start a shell script inside, and do not wait for it."""
        return subprocess.Popen(
            self.command(script), stdin=subprocess.DEVNULL, text=True, start_new_session=True, **options
        )

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside; it must not lie below a mount of the container's own (/tmp, /run)."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def outside(self, path: str) -> Path:
        """A file inside, as it is reached from here, mounts and sockets too."""
        return Path(f"/proc/{self._leader}/root{path}")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.run(f"systemctl show {unit} -p {','.join(properties)}").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def read_journal(self, matches: str = "-u outlived", since: float | None = None) -> str:
        """Lines of the journal, as they read to a person."""
        when = "" if since is None else f"--since=@{since:.6f}"
        return self.run(f"journalctl --sync; journalctl -q --no-pager -o short-precise {when} {matches}")
