"""MarathonWorld: generated videos of any length with exact truth, their questions and the exam."""
