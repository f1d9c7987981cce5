"""An agent for tests that does everything an agent may do, once."""

from outlived.agents import Desk


async def speak(desk: Desk) -> None:
    """One step with every kind of event; values that are too large are among them."""
    await desk.step("everything", say_everything, desk)


async def say_everything(desk: Desk) -> None:
    large = "x" * (300 << 10)
    await desk.emit_reasoning("it should be said")
    await desk.emit_text("said: ")
    await desk.tool_call("c1", "look", {"where": "there"})
    await desk.tool_result("c1", ["it", 1, None, True])
    await desk.tool_call("c2", "look", large)
    await desk.tool_result("c2", large, is_error=True)
    await desk.data("picture", {"width": 1.5})
    await desk.data("picture", [large])
    await desk.log("notes", "all well")
    await desk.usage(input_tokens=3, cost_micro_usd=40)
    await desk.usage(output_tokens=2, cached_tokens=1)
    await desk.emit_text("everything")
