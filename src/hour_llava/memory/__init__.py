"""The paper's idea: forgetting, MemAug over the whole memory, and the repository on disk."""

from hour_llava.memory.attention import (
    attend,
    attend_twin,
    attend_with_lse,
    merge_attention,
    partial_rotary_tables,
    rotate,
)
from hour_llava.memory.evidence import EvidenceMass
from hour_llava.memory.forgetting import (
    count_kept_cells,
    count_kept_frames,
    count_kept_tokens,
    count_memory_frames,
    forgetting_generator,
    kept_token_index,
    keyframes,
    query_positions,
    question_guided_frames,
    random_cells,
    random_frames,
    repeat_frame_index,
    uniform_cells,
    uniform_frames,
)
from hour_llava.memory.header import MemoryHeader
from hour_llava.memory.memaug import MemAug
from hour_llava.memory.plan import ChunkedMemory, MemoryTokens
from hour_llava.memory.repository import MemoryRepository
from hour_llava.memory.writer import MemoryFileWriter

__all__ = [
    "ChunkedMemory",
    "EvidenceMass",
    "MemAug",
    "MemoryFileWriter",
    "MemoryHeader",
    "MemoryRepository",
    "MemoryTokens",
    "attend",
    "attend_twin",
    "attend_with_lse",
    "count_kept_cells",
    "count_kept_frames",
    "count_kept_tokens",
    "count_memory_frames",
    "forgetting_generator",
    "kept_token_index",
    "keyframes",
    "merge_attention",
    "partial_rotary_tables",
    "query_positions",
    "question_guided_frames",
    "random_cells",
    "random_frames",
    "repeat_frame_index",
    "rotate",
    "uniform_cells",
    "uniform_frames",
]
