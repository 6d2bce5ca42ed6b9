"""Ways to coordinate agents, each a thin layer over `Run`: nothing here writes an event of its own.

What a body does through them is calls, timers and branches like any other, so it is replayed, taken over and counted
like any other.
"""
