"""The cluster's mode: measured, followed, changed; and the starts that are shed when there is too much to do."""
