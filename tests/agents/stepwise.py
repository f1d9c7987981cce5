"""Agents of steps for tests, which write down what they do in the file that ``metadata.notes`` names.

``metadata.stay`` says at which step of how many first attempts they stay: ``[2, 1]`` is at step 2 of the first one.
"""

import trio

from outlived.agents import Desk


async def walk(desk: Desk) -> None:
    """Four steps: what each returns goes into the answer."""
    for number in range(1, 5):
        found = await desk.step(f"step {number}", take, desk, number)
        await desk.emit_text(f"({found['number']} by {found['attempt']})")


async def stroll(desk: Desk) -> None:
    """The same agent after somebody has changed its program: it begins with another step."""
    await desk.step("look around", take, desk, 0)
    await walk(desk)


async def take(desk: Desk, number: int) -> dict[str, int]:
    metadata, attempt = desk.assignment.metadata, desk.assignment.attempt
    async with await trio.open_file(metadata["notes"], "a") as notes:
        await notes.write(f"{attempt}:{number}\n")
    step, attempts = metadata.get("stay", [0, 0])
    if number == step and attempt <= attempts:
        await desk.emit_text("here")
        await trio.sleep_forever()
    return {"number": number, "attempt": attempt}
