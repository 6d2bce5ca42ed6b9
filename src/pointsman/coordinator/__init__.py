"""The coordinator: claims runs (`owning`), drives them through the kernel, dispatches their calls and records what
happens (`driving`), within the cluster-wide `gates`, `budgets` and `modes`, and offers the operations of the API
(`verbs`).
"""
