"""The coordinator: claims runs (`owning`), advances them through the kernel, dispatches their calls and records what
happens (`driving`), under `gates`, `budgets` and `modes` that all share, and offers the `verbs` of the API."""
