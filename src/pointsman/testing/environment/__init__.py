"""The workflow environment: a user's app on the real coordinator and the memory store, with time that is skipped and
agents that do as the test says."""
