"""Which runs this coordinator drives: how they are claimed, brought back from their logs, held back and given up; and
the clients that wait for them.
"""
