"""Stores: implementations of the ports, one directory each with the same file names. They know nothing of each
other."""
