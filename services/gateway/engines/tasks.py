"""Works that run side by side until one of them ends."""

import asyncio
from collections.abc import Coroutine


async def first_of(**works: Coroutine[None, None, None]) -> None:
    """Runs all until the first ends, and cancels the others. Raises what that one raised. Keywords name the tasks."""
    tasks = [asyncio.create_task(work, name=f"gateway:{name}") for name, work in works.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
