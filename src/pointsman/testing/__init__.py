"""What ships for tests: the suite that every store must pass, the simulator, drills with real faults, and the replay of
histories."""
