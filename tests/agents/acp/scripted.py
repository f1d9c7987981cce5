"""An agent of the Agent Client Protocol for tests: the standard library, and no code of ours.

It answers a prompt by the word in brackets in it; see ``DOES``. With ``--loads`` it keeps its sessions in files of the
current directory and can load them.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LOADS = "--loads" in sys.argv
ids = map("q{}".format, itertools.count())


def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def update(session, what, **fields):
    params = {"sessionId": session, "update": {"sessionUpdate": what, **fields}}
    send(method="session/update", params=params)


def say(session, text, kind="agent_message_chunk"):
    update(session, kind, content={"type": "text", "text": text})


def receive():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def ask(method, **params):
    """Ask the client; its whole reply."""
    own_id = next(ids)
    send(id=own_id, method=method, params=params)
    while True:
        message = receive()
        if message.get("id") == own_id and "method" not in message:
            return message


def wait_cancel():
    while receive().get("method") != "session/cancel":
        pass


def think(session):
    say(session, "Let me think.", "agent_thought_chunk")
    say(session, "Thought.")


def plan(session):
    update(session, "plan", entries=[{"content": "one", "priority": "high", "status": "pending"}])
    say(session, "Planned.")


def tool(session):
    call = {"toolCallId": "t1", "title": "Look", "kind": "read", "status": "pending"}
    update(session, "tool_call", **call)
    update(session, "tool_call_update", toolCallId="t1", status="in_progress", rawInput={"path": "/x"})
    shown = [{"type": "content", "content": {"type": "text", "text": "found"}}]
    update(session, "tool_call_update", toolCallId="t1", status="completed", content=shown)
    say(session, "Looked.")


def permit(session, kind):
    call = {"toolCallId": "p1", "title": "May I", "kind": kind, "rawInput": {"a": 1}}
    update(session, "tool_call", status="pending", **call)
    options = [
        {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
        {"optionId": "no", "name": "No", "kind": "reject_once"},
    ]
    reply = ask("session/request_permission", sessionId=session, toolCall=call, options=options)
    chosen = reply["result"]["outcome"].get("optionId", "cancelled")
    update(session, "tool_call_update", toolCallId="p1", status="completed" if chosen == "yes" else "failed")
    say(session, f"You said {chosen}.")


def files(session):
    codes = [
        ask("fs/read_text_file", sessionId=session, path="/etc/passwd")["error"]["code"],
        ask("terminal/create", sessionId=session, command="id")["error"]["code"],
    ]
    say(session, f"Refused: {codes}")


def stall(session):
    say(session, "So far")
    wait_cancel()
    return "cancelled"


def deaf(session):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sh", "-c", "trap '' TERM; exec setsid sleep 1000"])
    say(session, "So far")
    while True:
        time.sleep(1000)


def die(session):
    say(session, "So far")
    os.kill(os.getpid(), signal.SIGKILL)


def leave(session):
    say(session, "So far")
    sys.exit(3)


def noise(session):
    print("this is no JSON", flush=True)
    print("[1]", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    send(id=999, result={})
    say(session, "Quiet now.")


def remember(session, earlier):
    say(session, " | ".join(earlier))


DOES = {"think": think, "plan": plan, "tool": tool, "files": files, "stall": stall, "deaf": deaf, "die": die,
        "leave": leave, "noise": noise}  # fmt: skip


def prompt(request, sessions):
    session, blocks = request["params"]["sessionId"], request["params"]["prompt"]
    text = "".join(block.get("text", block.get("uri", "")) for block in blocks)
    earlier = list(sessions[session])
    sessions[session].append(text)
    if LOADS:
        Path(f"session-{session}").write_text(json.dumps(sessions[session]))
    word = text.rpartition("[")[2].partition("]")[0] if "[" in text else ""
    reason = "end_turn"
    if word == "fail":
        send(id=request["id"], error={"code": -32603, "message": "it went wrong"})
        return
    if word == "refuse":
        reason = "refusal"
    elif word.startswith("permit "):
        permit(session, word.partition(" ")[2])
    elif word == "remember":
        remember(session, earlier)
    elif word in DOES:
        reason = DOES[word](session) or reason
    else:
        say(session, f"You said: {text}")
    usage = {"inputTokens": 20, "outputTokens": 7, "cachedReadTokens": 10, "totalTokens": 37}
    send(id=request["id"], result={"stopReason": reason, "usage": usage})


def main():
    sessions = {}
    while True:
        request = receive()
        method, request_id = request.get("method"), request.get("id")
        if method == "initialize":
            send(
                id=request_id,
                result={"protocolVersion": 1, "agentCapabilities": {"loadSession": LOADS}, "authMethods": []},
            )
        elif method == "session/new" and "--locked" in sys.argv:
            send(id=request_id, error={"code": -32000, "message": "Authentication required"})
        elif method == "session/new":
            session = f"s{os.getpid()}"
            sessions[session] = []
            send(id=request_id, result={"sessionId": session})
        elif method == "session/load":
            session = request["params"]["sessionId"]
            kept = Path(f"session-{session}")
            if not kept.exists():
                send(id=request_id, error={"code": -32602, "message": "no such session"})
                continue
            sessions[session] = json.loads(kept.read_text())
            for text in sessions[session]:
                say(session, text, "user_message_chunk")
                say(session, "an old answer")
            send(id=request_id, result={})
        elif method == "session/prompt":
            prompt(request, sessions)
        elif request_id is not None and method is not None:
            send(id=request_id, error={"code": -32601, "message": "no such method"})


if __name__ == "__main__":
    main()
