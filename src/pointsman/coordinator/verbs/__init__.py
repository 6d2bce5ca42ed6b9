"""What a coordinator offers to its API and to the command line: the ports `Runs`, `Inbox`, `Attempts` and `Workers`."""
