"""The operations that a coordinator offers to its API and to the command line: the ports `Runs`, `Inbox`, `Attempts`,
`Workers` and `Budgets`. (`Agents` and `Modes` are implemented by their keepers.)
"""
