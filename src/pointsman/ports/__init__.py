"""What the coordinator needs of the world: Protocols whose docstrings are obligations, tested by
`testing/conformance`."""
