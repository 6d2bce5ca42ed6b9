"""What the coordinator needs from the outside world, as Protocols. Their docstrings are obligations, which
`testing/conformance` tests.
"""
