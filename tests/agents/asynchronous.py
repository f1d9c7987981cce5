"""Agents for asyncio; tests import them as a user's module would be."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress


async def answer(desk):
    """Use everything at the desk once."""
    await desk.emit_reasoning("hm")
    await desk.emit_text(f"you said {desk.input}")
    await desk.emit_text(f" after {len(desk.history)}")
    await desk.tool_call("1", "look", {"at": 1})
    await desk.tool_result("1", [2], is_error=True)
    await desk.data("plan", {"a": 1})
    await desk.log("notes", "x")
    await desk.usage(input_tokens=3)
    await asyncio.sleep(0)


async def work(desk):
    """Three steps at once, in the order of their calls."""
    results = await asyncio.gather(*[desk.step(f"step {number}", double, number) for number in (1, 2, 3)])
    await desk.emit_text(str(results))


async def double(number):
    await asyncio.sleep(0.03 / number)
    return (number * 2,)


async def nest(desk):
    async def inner():
        await desk.step("inner", double, 1)

    await desk.step("outer", inner)


async def fail(desk):
    await asyncio.sleep(0)
    raise ValueError("no")


async def leave(desk):
    raise SystemExit(3)


async def wait(desk):
    """Say so when it is cancelled, in asyncio's way."""
    await desk.emit_text("waiting")
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        await desk.log("notes", "CancelledError")
        raise


async def stay(desk):
    """Does not listen the first two times."""
    await desk.emit_text("staying")
    for _ in range(2):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)
    await asyncio.sleep(1000)


async def hurry(desk):
    """What libraries do with clocks that have gone on: a delay below zero."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(-0.001, done.set)
    await done.wait()
    await asyncio.wait_for(asyncio.sleep(0), 5)
    await desk.emit_text("in time")


async def stray(desk):
    """Leaves a task that fails, one that goes on, and a timer."""
    asyncio.get_running_loop().create_task(fail(desk))
    asyncio.get_running_loop().create_task(asyncio.sleep(1000))
    asyncio.get_running_loop().call_later(1000, print)
    await asyncio.sleep(0.01)
    await desk.emit_text("done")


async def use_threads_and_processes(desk):
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor() as pool:
        found = await loop.run_in_executor(pool, os.getpid)
    process = await asyncio.create_subprocess_exec("echo", "hello", stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    await desk.emit_text(f"{found == os.getpid()} {said.decode().strip()}")


async def time_out(desk):
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(1000)
    except TimeoutError:
        await desk.emit_text("timed out")
    async with asyncio.TaskGroup() as group:
        group.create_task(desk.emit_text(", together"))


async def query(desk):
    """Talk to a database by a library that has taken functions of asyncio by name."""
    import psycopg

    connection = await psycopg.AsyncConnection.connect(desk.assignment.metadata["dsn"])
    async with connection:
        cursor = await connection.execute("SELECT 6 * 7")
        [(found,)] = await cursor.fetchall()
    await desk.emit_text(str(found))


async def remember(desk):
    await desk.emit_text(" | ".join(message.content for message in desk.history))


async def block(desk):
    await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251 - that is the point
