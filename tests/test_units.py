"""``outlived install-units``: what it writes, where, and what it refuses."""

import os
import subprocess
import sys
import sysconfig
from argparse import Namespace
from pathlib import Path

import pytest

from outlived import units
from outlived.units import UnitsRefused, install_units, make_plan

PROGRAM = Path(sysconfig.get_path("scripts"), "outlived")
SOURCE = Path(__file__).parents[1] / "systemd"


def run(*arguments, **environment):
    return subprocess.run(
        [PROGRAM, "install-units", *arguments],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip


def test_what_is_installed_is_what_lies_in_the_sources(tmp_path):
    """Every file is that of the sources, with this installation's program in it; nothing is enabled."""
    done = run("--root", str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert {str(path) for path in written} == {
        "usr/local/lib/systemd/system/outlived.service",
        "usr/local/lib/systemd/system/outlived.socket",
        "usr/local/lib/sysusers.d/outlived.conf",
        "usr/local/lib/tmpfiles.d/outlived.conf",
    }
    assert sorted(done.stdout.splitlines()) == sorted(str(tmp_path / place) for place in written)
    text = (tmp_path / "usr/local/lib/systemd/system/outlived.service").read_text()
    assert text == (SOURCE / "outlived.service").read_text().replace("/usr/local/bin/outlived", str(PROGRAM))
    assert f"ExecStart={PROGRAM} serve\n" in text


def test_a_personal_daemon_goes_into_a_home(tmp_path):
    """Without root the units are a user's own, where the user manager looks."""
    done = run("--user", HOME=str(tmp_path), XDG_CONFIG_HOME="")
    assert done.returncode == 0, done.stderr
    place = tmp_path / ".config/systemd/user"
    assert sorted(path.name for path in place.iterdir()) == ["outlived.service", "outlived.socket"]
    assert f"ExecStart={PROGRAM} serve\n" in (place / "outlived.service").read_text()


def test_a_dry_run_writes_nothing(tmp_path):
    """What would be written is shown, with its places; nothing is."""
    done = run("--user", "--dry-run", HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path / "config"))
    assert done.returncode == 0, done.stderr
    assert f"# {tmp_path}/config/systemd/user/outlived.service\n" in done.stdout
    assert "Type=notify\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_examples_become_drop_ins(tmp_path):
    """A drop-in that is named lies where systemd reads it; another name is refused with those there are."""
    done = run("--root", str(tmp_path), "--drop-in", "survive-restarts")
    assert done.returncode == 0, done.stderr
    written = tmp_path / "etc/systemd/system/outlived.service.d/survive-restarts.conf"
    assert written.read_text() == (SOURCE / "drop-ins/survive-restarts.conf").read_text()
    done = run("--root", str(tmp_path), "--drop-in", "fast")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "outlived: cannot add drop-in fast: there is none; there are: database-credential, dynamic-user, "
        "sandboxing-agents, survive-restarts\n"
    )


def test_a_program_with_spaces_and_percents(tmp_path, monkeypatch):
    """A path that systemd would read otherwise is written so that it does not."""
    program = Path("/opt/my agents/100%/outlived")
    plan = make_plan(program, True, tmp_path, [])
    text = next(text for path, text in plan.files.items() if path.name == "outlived.service")
    assert 'ExecStart="/opt/my agents/100%%/outlived" serve\n' in text


@pytest.mark.parametrize("home", ["/root", "/home"])
def test_a_program_in_a_home_is_refused(monkeypatch, home):
    """The service does not see homes: what could not start is not installed, and the message says where to go."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UnitsRefused, match=f"the service does not see {home} .*such as /opt/outlive"):
        make_plan(Path(home, "venv/bin/outlived"), False, None, [])


def test_a_program_behind_a_closed_door_is_refused(tmp_path, monkeypatch):
    """The service's user must be able to walk to the program."""
    monkeypatch.setattr(units, "_UNSEEN", ())
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(UnitsRefused, match="the service's user cannot enter"):
        make_plan(closed / "outlived", False, None, [])


def test_only_root_installs_for_the_system(monkeypatch, capsys):
    """Whoever is not root is told of the way that is open to them."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(units, "_check_reach", lambda _: None)
    monkeypatch.setattr(sys, "argv", [str(PROGRAM)])
    assert install_units(Namespace(user=False, root=None, dry_run=True, drop_in=[])) == 1
    assert "you are not root; for your own daemon: --user" in capsys.readouterr().err
