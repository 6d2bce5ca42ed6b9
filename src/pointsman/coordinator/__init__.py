"""The coordinator: claims runs, advances them through the kernel, dispatches their calls, records what happens."""
