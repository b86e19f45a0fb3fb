"""Hour-LLaVA: ask questions of hour-long videos, and build the models that answer them.

Importing this package loads neither torch nor transformers; the names below arrive on first use.
After `import hour_llava` the Auto classes of transformers know `model_type = "hour_llava"`.
"""

from __future__ import annotations
