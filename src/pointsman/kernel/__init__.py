"""The kernel: facts in, facts out. No clock, no I/O, no asyncio, no logging; `now` and ids are arguments."""
