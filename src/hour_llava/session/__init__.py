"""Remember a video once, ask it as often as you like: the layer that users, CLI and servers call.

`load` gives an `Assistant`; `Assistant.remember` gives a memory, kept on disk by the content of the
video; `Assistant.ask` gives an `Answer` with the seconds that it was read from.
"""

from hour_llava.session.answer import Answer, Progress
from hour_llava.session.assistant import Assistant, builtin_models, load

__all__ = ["Answer", "Assistant", "Progress", "builtin_models", "load"]
