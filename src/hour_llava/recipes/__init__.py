"""Named training runs, each a function and a `python -m` command."""
