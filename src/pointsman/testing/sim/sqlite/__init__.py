"""The SQLite store in a schedule: production's, unchanged, on a real file; one process has it open at a time."""
