"""A ``jsonl`` agent for tests, by hand: the standard library, and no code of ours. Its input says what it does.

``count N SECONDS``  N steps, each with one line of text and its usage, in about that time
``stall``            says something, and stays
``fail``             says something, and exits with status 3
``die``              says something, and is killed
``cheat``            tries to settle its own run, and more that it must not
``twins``            leaves one of two open steps behind the first time it is run, and the second time none
``history``          what was asked before
"""

import json
import os
import signal
import sys
import time


def say(what, **data):
    sys.stdout.write(json.dumps({"type": what, **data}) + "\n")
    sys.stdout.flush()


def count(number, seconds):
    for n in range(number):
        say("step.started", name="count")
        say("text.delta", text=f"{n}\n")
        say("step.finished", name="count", usage={"output_tokens": 1})
        time.sleep(seconds / number)


def twins(attempt):
    say("step.started", name="left", step=1)
    say("step.started", name="right", step=2)
    say("step.finished", name="right", step=2)
    if attempt == 1:
        say("text.delta", text="here")
        time.sleep(1000)
    say("step.finished", name="left", step=1)


def cheat():
    say("run.settled", status="succeeded", error=None, stop_requested_at=None, stop_reason=None)
    say("run.stop_requested", by="me", reason=None, requested_at="2020-01-01T00:00:00.000000Z")
    say("text.delta", text="x", seq=1)
    print("plain text")
    print("{" + "x" * (2 << 20))
    say("text.delta", text="still here")


def main():
    given = json.load(sys.stdin)
    word, _, rest = given["input"].partition(" ")
    if word == "count":
        number, seconds = rest.split()
        count(int(number), float(seconds))
    elif word == "twins":
        twins(given["run"]["attempt"])
    elif word == "cheat":
        cheat()
    elif word == "history":
        say("text.delta", text=" | ".join(each["content"] for each in given["history"]))
    else:
        say("tool.call", tool_call_id="1", name="look", input={"at": "x"})
        say("tool.result", tool_call_id="1", output="seen")
        say("text.delta", text="so far")
        if word == "stall":
            time.sleep(1000)
        elif word == "fail":
            sys.exit(3)
        elif word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        say("usage", input_tokens=3, output_tokens=2, cost_micro_usd=5)


if __name__ == "__main__":
    main()
