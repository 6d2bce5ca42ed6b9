"""Which runs this coordinator drives: claimed, brought back from their logs, held back, given up; and who waits."""
