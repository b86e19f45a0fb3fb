"""The data layer works where neither a decoder nor the command line's library is installed."""

from __future__ import annotations

import subprocess
import sys


def test_data_imports_without_decoder_command_line_and_parquet() -> None:
    code = (
        "import sys\n"
        "for name in ('av', 'tyro', 'pyarrow'): sys.modules[name] = None\n"
        "import hour_llava.data.collate, hour_llava.data.check, hour_llava.data.extraction\n"
        "import hour_llava.data.readers.layouts, hour_llava.data.grouping\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)


def test_manifests_and_orders_load_without_torch() -> None:
    code = (
        "import hour_llava.data.sampler, hour_llava.data.readers.layouts\n"
        "import hour_llava.commands.data, hour_llava.commands.extract, sys\n"
        "assert not {'torch', 'transformers', 'av'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)
