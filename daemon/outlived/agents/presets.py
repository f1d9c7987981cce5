"""Coding agents that need no configuration: what is on PATH can be named.

1. A preset adds nothing to what its program may do: that is the program's own configuration.
2. It works in its caller's directory (``in_cwd``), with its caller's rights: only the daemon's own user and root may
   name one, as with any command of theirs.
3. It is always known and shown only where its program is found; a configured agent of its name takes its place.
4. The keys of its providers are handed on, if the daemon has them: they are what it works with.

Not here: what the programs print (``formats``).
"""

from __future__ import annotations

from collections.abc import Iterable

from outlived.agents import AgentBroken
from outlived.agents.command import CommandAgent

_PROVIDERS = (
    "OPENAI_*", "ANTHROPIC_*", "OPENROUTER_*", "GEMINI_*", "GOOGLE_*", "GROQ_*", "MISTRAL_*", "DEEPSEEK_*", "XAI_*",
    "AZURE_*", "AWS_*",
)  # fmt: skip


class Preset(CommandAgent):
    """A coding agent as its makers ship it."""

    @property
    def is_found(self) -> bool:
        """Whether its program is on PATH now."""
        try:
            self.check()
        except AgentBroken:
            return False
        return True


def open_presets(inherit: Iterable[str] = ()) -> dict[str, Preset]:
    """All of them, by name. ``inherit``: variables that every command gets from the daemon."""
    return {
        "codex": Preset(
            ["codex", "exec", "--json", "--skip-git-repo-check", "-"],
            "OpenAI Codex, in your current directory",
            format="codex",
            inherit=(*inherit, "CODEX_*", "OPENAI_*"),
        ),
        "opencode": Preset(
            ["opencode", "run", "--format", "json", "--thinking"],
            "opencode, in your current directory",
            format="opencode",
            inherit=(*inherit, "OPENCODE_*", *_PROVIDERS),
        ),
        "claude": Preset(
            ["claude", "-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"],
            "Claude Code, in your current directory (experimental)",
            format="claude",
            inherit=(*inherit, "CLAUDE_*", "ANTHROPIC_*", "AWS_*", "GOOGLE_*"),
        ),
    }
