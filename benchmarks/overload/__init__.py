"""Overload: more new runs than the cluster can do, and how many of them are done in time all the same."""
