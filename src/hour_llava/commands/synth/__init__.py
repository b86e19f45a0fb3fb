"""The verbs of `hour-llava synth`: one file a verb."""
