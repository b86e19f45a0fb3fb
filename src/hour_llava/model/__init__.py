"""Hour-LLaVA for transformers: configuration, processor, model, and checkpoints of both layouts.

Nothing is imported here: each file says what it needs, and `hour_llava` exports the names lazily.
"""
