"""The deterministic loop: virtual time, seeded choice, processes that are held, no threads."""

import asyncio
import contextvars
import random

import pytest

from pointsman.testing.sim.loop import PROCESS, Deadlock, Livelock, Process, SimLoop


@pytest.fixture
def loop():
    loop = SimLoop(random.Random(1))
    yield loop
    loop.close()


def in_process(process):
    context = contextvars.copy_context()
    context.run(PROCESS.set, process)
    return context


def test_the_clock_jumps_to_the_next_timer(loop):
    async def wait():
        await asyncio.sleep(3_600)
        return asyncio.get_running_loop().time()

    assert loop.run_until_complete(wait()) == pytest.approx(3_600)


def order_of(seed):
    loop, order = SimLoop(random.Random(seed)), []

    async def note(number):
        await asyncio.sleep(0)
        order.append(number)

    async def all_of_them():
        await asyncio.gather(*(note(number) for number in range(8)))

    loop.run_until_complete(all_of_them())
    loop.close()
    return tuple(order)


def test_the_seed_chooses_among_what_is_ready():
    assert order_of(3) == order_of(3)
    assert len({order_of(seed) for seed in range(10)}) > 5


def test_a_held_process_runs_nothing_until_it_is_released(loop):
    process, ran = Process("p"), []

    async def work():
        loop.hold(process)
        loop.call_soon(lambda: ran.append((loop.time(), loop.was_held)), context=in_process(process))
        loop.call_later(0.5, lambda: ran.append((loop.time(), loop.was_held)), context=in_process(process))
        await asyncio.sleep(1)
        assert ran == []
        loop.release(process)
        loop.call_soon(lambda: ran.append((loop.time(), loop.was_held)), context=in_process(process))
        await asyncio.sleep(1)

    loop.run_until_complete(work())
    assert sorted((round(at), late) for at, late in ran) == [(1, False), (1, True), (1, True)]


def test_a_livelock_and_a_deadlock_are_named():
    async def spin():
        while True:
            await asyncio.sleep(0)

    async def hang():
        await asyncio.get_running_loop().create_future()

    for body, error in ((spin, Livelock), (hang, Deadlock)):
        loop = SimLoop(random.Random(1), steps_max=1_000)
        task = loop.create_task(body())
        with pytest.raises(error):
            loop.run_forever()
        task.cancel()
        loop.steps_max = 2_000
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.call_later(0.1, loop.stop)
        loop.run_forever()
        loop.close()


def test_threads_are_refused(loop):
    with pytest.raises(RuntimeError, match="no threads"):
        loop.run_in_executor(None, print)
    with pytest.raises(RuntimeError, match="no threads"):
        loop.call_soon_threadsafe(print)
