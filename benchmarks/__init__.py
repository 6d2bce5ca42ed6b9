"""Measurements: `python -m benchmarks NAME --json`. They print figures and are no tests."""
