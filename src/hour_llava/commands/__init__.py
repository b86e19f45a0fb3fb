"""The verbs of `hour-llava`: one file a verb, one function a file; torch loads when a verb runs."""
