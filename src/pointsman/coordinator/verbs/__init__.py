"""What a coordinator offers to its API and to the command line: the ports `Runs`, `Inbox`, `Attempts`,
`Workers` and `Budgets`. (`Agents` and `Modes` are offered by their keepers.)"""
