"""After `import hour_llava`, transformers knows the model, whichever was imported first."""

from __future__ import annotations

import subprocess
import sys

import pytest

ORDERS = {
    "hour_llava_first": "import hour_llava\n{light}\nimport transformers",
    "transformers_first": "import transformers\nimport hour_llava",
    "auto_classes_first": "from transformers import AutoModel, AutoProcessor\nimport hour_llava",
    "our_model_first": "import hour_llava.model.modeling_hour_llava, transformers",
}
LIGHT = "import sys; assert not {'torch', 'transformers'} & set(sys.modules)"
CHECK = """
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
import hour_llava
assert type(AutoConfig.for_model('hour_llava')) is hour_llava.HourLlavaConfig
assert hour_llava.HourLlavaConfig in AutoModelForImageTextToText._model_mapping
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
assert PROCESSOR_MAPPING[hour_llava.HourLlavaConfig] is hour_llava.HourLlavaProcessor
"""


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_auto_classes_know_the_model_in_either_order(order: str) -> None:
    code = order.format(light=LIGHT) + CHECK
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_exports_are_sorted_and_all_there() -> None:
    import hour_llava

    assert list(hour_llava.__all__) == sorted(hour_llava.__all__)
    assert hour_llava.__all__ == [
        "Answer",
        "Assistant",
        "Evidence",
        "HourLlavaConfig",
        "HourLlavaError",
        "HourLlavaForConditionalGeneration",
        "HourLlavaModel",
        "HourLlavaProcessor",
        "MemAug",
        "MemoryRepository",
        "load",
    ]
    for name in hour_llava.__all__:
        assert getattr(hour_llava, name) is not None
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = hour_llava.nothing_here
