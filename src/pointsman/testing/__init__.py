"""Tests that ship with Pointsman: the suite that every store must pass, the simulator, and the replay of histories."""
