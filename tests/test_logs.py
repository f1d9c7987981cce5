"""How the daemon logs: where to, how often, and what becomes of lines that nobody takes."""

import json
import os
import socket
import struct
import subprocess
import sys
from contextlib import closing

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from outlived import journald, logs
from outlived.journald import Journal, encode, name_field
from outlived.logs import OFTEN, WINDOW_SECONDS, Limiter

SPEAK = """
import sys, structlog
from outlived.logs import open_logs
open_logs(to_journal="journal" in sys.argv)
log = structlog.get_logger("outlived")
for each in range(3):
    log.info("said", number=each, run_id="r")
log.debug("unsaid")
try:
    raise ValueError("broken")
except ValueError:
    log.exception("failed")
"""


def decode(data):
    """An entry of the journal, as the journal reads it."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name, (size,) = line, struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        fields[name.decode()] = value.decode("utf-8", "replace")
        data = rest
    return fields


@given(st.dictionaries(st.sampled_from(["MESSAGE", "RUN_ID", "A"]), st.text(st.characters(codec="utf-8"))))
def test_entries_read_as_they_were_written(fields):
    """Any text, with line breaks too, is one field of one entry."""
    assert decode(encode(fields)) == fields


def test_a_novel_is_cut():
    """A value that would burst the datagram is cut."""
    assert len(encode({"MESSAGE": "x" * (1 << 20)})) < 2 * journald.MAX_VALUE_BYTES


@given(st.text())
def test_a_field_has_a_name_that_the_journal_takes(name):
    """Whatever a value is called, its field has a name of capitals, digits and underscores, and none that is reserved."""
    field = name_field(name)
    assert field.isascii()
    assert 0 < len(field) <= 64
    assert field[0].isalpha()
    assert set(field) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def test_a_journal_without_room_loses_lines_and_counts_them(tmp_path):
    """A line for which there is no room is lost at once; how many were is told with the next that arrives."""
    with closing(Journal(str(tmp_path / "socket"))) as journal:
        assert not journal.is_there()
        assert not journal.send({"MESSAGE": "nobody is there"})
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
            ear.bind(journal.path)
            assert journal.is_there()
            while journal.send({"MESSAGE": "again"}):
                pass
            assert decode(ear.recv(4096))["LOST"] == "1"
            assert journal.send({"MESSAGE": "room"})
            said = []
            while not said or said[-1]["MESSAGE"] != "room":
                said.append(decode(ear.recv(4096)))
            assert said[-1]["LOST"] == "1"


def limit(limiter, sentence, **values):
    try:
        return limiter(None, "info", {"event": sentence, **values})
    except structlog.DropEvent:
        return None


def test_what_is_said_again_and_again_is_said_seldom(monkeypatch):
    """Of one sentence so many lines pass in a window; what did not is counted in the next. Others are not affected."""
    now = 1000.0
    monkeypatch.setattr(logs, "monotonic", lambda: now)
    limiter = Limiter()
    passed = [limit(limiter, "cannot accept", fd=number) for number in range(OFTEN + 50)]
    assert passed.count(None) == 50
    assert None not in passed[:OFTEN]
    assert limit(limiter, "something else") == {"event": "something else"}
    now += WINDOW_SECONDS
    assert limit(limiter, "cannot accept") == {"event": "cannot accept", "not_said": 50}
    assert limit(limiter, "cannot accept") == {"event": "cannot accept"}


def test_the_limiter_is_bounded():
    """Sentences without number (a bug: values belong beside them) take no memory without bound."""
    limiter = Limiter()
    for number in range(5 * logs.SENTENCES):
        assert limit(limiter, f"sentence {number}") is not None
    assert len(limiter._sentences) <= logs.SENTENCES


def speak(*arguments, **options):
    return subprocess.run([sys.executable, "-c", SPEAK, *arguments], check=True, timeout=60, **options)


def test_a_pipe_gets_json():
    """Where nobody watches, each line is a JSON object with its time, its level and its values; a traceback is a field."""
    said = [json.loads(line) for line in speak(stderr=subprocess.PIPE).stderr.splitlines()]
    assert [line["event"] for line in said] == ["said", "said", "said", "failed"]
    assert (said[0]["level"], said[0]["number"], said[0]["run_id"]) == ("info", 0, "r")
    assert said[0]["timestamp"].endswith("Z")
    assert "ValueError: broken" in said[-1]["exception"]


def test_without_a_journal_there_is_still_a_log(tmp_path):
    """A service that is shut off from the journal's socket writes JSON to its standard error."""
    with closing(Journal()) as journal:
        if journal.is_there():
            pytest.skip("there is a journal here, which would get the lines of this test")
    assert len(speak("journal", stderr=subprocess.PIPE).stderr.splitlines()) == 4


def test_a_log_that_nobody_reads_stops_nothing():
    """A pipe whose reader is gone takes the lines with it, and the program goes on."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        speak(stderr=writing)
    finally:
        os.close(writing)
