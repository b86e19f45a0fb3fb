"""Memories survive cutting, joining and the disk; spoiled files raise one error and no other."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hour_llava.errors import MemoryFileError
from hour_llava.memory import MemoryFileWriter, MemoryHeader, MemoryRepository
from hour_llava.memory.file import DATA_START
from hour_llava.schema import DamagedSpan

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@st.composite
def memories(draw: st.DrawFn) -> MemoryRepository:
    shape = [draw(st.integers(1, 30)), draw(st.integers(1, 5)), draw(st.integers(1, 7))]
    gaps = draw(st.lists(st.floats(0, 5), min_size=shape[0], max_size=shape[0]))
    times = torch.tensor(gaps, dtype=torch.float64).cumsum(0)
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    header = MemoryHeader(
        content_digest=draw(st.text(max_size=9)),
        model=draw(st.text(max_size=9)),
        damage=tuple(
            DamagedSpan(start_seconds=s, end_seconds=s + 1, reason=draw(st.text(max_size=20)))
            for s in draw(st.lists(st.floats(0, 100), max_size=3))
        ),
    )
    return MemoryRepository(
        features_FPD=torch.randn(shape, generator=g).to(draw(st.sampled_from(DTYPES))),
        times_F=times,
        header=header,
        thumbnails=tuple((float(times[0]), image) for image in draw(st.lists(st.binary()))),
    )


def same(a: MemoryRepository, b: MemoryRepository) -> bool:
    equal = torch.equal(a.features_FPD, b.features_FPD) and torch.equal(a.times_F, b.times_F)
    return equal and a.header == b.header and a.thumbnails == b.thumbnails


@settings(max_examples=25, deadline=None)
@given(memory=memories(), data=st.data())
def test_cut_anywhere_saved_and_joined_a_memory_is_itself(
    memory: MemoryRepository, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = memory.save(Path(folder) / "a.hlm")
        opened = MemoryRepository.open(path)
        opened.verify()
        assert same(opened, memory)
        cut = data.draw(st.integers(0, memory.num_frames))
        parts = [opened[a:b] for a, b in ((0, cut), (cut, None)) if a != b and a < len(opened)]
        joined = MemoryRepository.concatenate(parts)
        assert torch.equal(joined.features_FPD, memory.features_FPD)
        assert torch.equal(joined.times_F, memory.times_F)
        second = st.floats(0, 150, allow_subnormal=False)  # torch may flush them to zero
        a, b = sorted(data.draw(st.tuples(second, second)))
        inside = ((memory.times_F >= a) & (memory.times_F < b)).nonzero()[:, 0]
        if len(inside):
            cropped = opened.crop(a, b)
            assert torch.equal(cropped.features_FPD, memory.features_FPD[inside])
            assert cropped.duration_seconds <= b - a + 1e-9


@settings(max_examples=30, deadline=None)
@given(
    stops=st.lists(st.integers(1, 20), max_size=4), size=st.integers(1, 5), every=st.integers(1, 9)
)
def test_a_writer_stopped_and_resumed_anywhere_writes_the_same_file(
    stops: list[int], size: int, every: int
) -> None:
    features = torch.randn(40, 2, 3)
    times = torch.arange(40).double()
    with tempfile.TemporaryDirectory() as folder:
        files: list[bytes] = []
        for name, limits in (("once", [40]), ("often", [*stops, 40])):
            path = Path(folder) / name
            for limit in limits:
                sizes = {"tokens_per_frame": 2, "feature_size": 3, "dtype": torch.float32}
                writer = MemoryFileWriter(
                    path, header=MemoryHeader(duration_seconds=40), commit_every=every, **sizes
                )
                done = writer.num_frames
                while done < min(limit, 40):
                    step = slice(done, min(done + size, 40))
                    writer.add(features[step], times[step].tolist())
                    done = writer.num_frames
                if limit == 40:
                    writer.finish()
                writer.close()
            files.append(path.read_bytes())
        assert files[0] == files[1]


@settings(max_examples=150, deadline=None)
@given(
    position=st.one_of(st.integers(0, 1400), st.integers(0, DATA_START + 2000)),
    value=st.integers(0, 255),
    cut=st.one_of(st.none(), st.integers(0, DATA_START + 1500)),
)
def test_a_spoiled_file_raises_one_error_or_is_read_as_it_was(
    spoilable: tuple[Path, MemoryRepository], position: int, value: int, cut: int | None
) -> None:
    path, memory = spoilable
    raw = bytearray(path.read_bytes())
    raw[min(position, len(raw) - 1)] = value
    spoiled = path.with_name("spoiled.hlm")
    spoiled.write_bytes(raw[:cut])
    try:
        opened = MemoryRepository.open(spoiled)
        opened.verify()
    except MemoryFileError as error:
        assert str(spoiled) in str(error)
        assert "\n" not in str(error)
    else:
        assert same(opened, memory)


@settings(max_examples=100, deadline=None)
@given(header=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_any_header_at_all_raises_one_error(header: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.hlm"
        path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(50))
        try:
            MemoryRepository.open(path)
        except MemoryFileError:
            return
        raise AssertionError("a random file was read as a memory")


@pytest.fixture(scope="module")
def spoilable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemoryRepository]:
    memory = MemoryRepository(
        features_FPD=torch.randn(20, 2, 5),
        times_F=torch.arange(20),
        header=MemoryHeader(content_digest="c0ffee", model="nano"),
        thumbnails=((3.0, b"jpeg"),),
    )
    path = tmp_path_factory.mktemp("spoiled") / "a.hlm"
    return memory.save(path), memory
