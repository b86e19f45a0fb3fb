"""Paid calls: asked once, kept for good, within limits.

    request -> key -> ledger? -> budget -> limits -> one HTTP try -> ledger -> guards -> answer

`caller` is the way in; each other file is one of the steps. Importing loads neither openai nor ray.
"""
