"""`pointsman init`: the command, and the files of a new project (`project/`, with `$name` in them)."""
