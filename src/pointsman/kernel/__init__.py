"""The kernel: facts in, facts out. It has no clock, no I/O, no asyncio and no logging; `now` and ids are arguments."""
