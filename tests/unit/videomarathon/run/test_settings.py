"""build.toml: what is wrong is named in one line; no key is ever in it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template

import pytest

from hour_llava.errors import BuildError
from hour_llava.videomarathon.settings import FILE, BuildSettings, read_settings

LLM = 'base_url = "http://h/v1"\nmodel = "m"\n'


def write(folder: Path, text: str) -> Path:
    (folder / FILE).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "source: Field required"),
        (
            'source = "v"\nmin_minuts = 3',
            r"toml: unknown setting min_minuts; did you mean min_minutes\?$",
        ),
        ('source = "v"\nxyz = 3', "unknown setting xyz; known are source, name"),
        (
            'source = "v"\n[splits]\ntrian = 1.0',
            r"unknown setting splits.trian; did you mean splits.train\?$",
        ),
        (
            'source = "v"\n[endpoints.llm]\n' + LLM + "modle = 1",
            r"unknown setting endpoints.llm.modle; did you mean endpoints.llm.model\?$",
        ),
        ('source = "v"\nmin_minutes = "x"', "min_minutes: .* not 'x'"),
        ('source = "v"\nmin_minutes = 9\nmax_minutes = 3', "max_minutes 3 < min_minutes 9"),
        ('source = "v"\nbackend = "gpt"', "backend: .* not 'gpt'"),
        ('source = "v"\nbackend = "endpoint"', r"needs \[endpoints.captioner\]"),
        ('source = "v"\n[endpoints.llm]\n' + LLM, r"\[endpoints.captioner\] is missing"),
        ('source = "v"\n[endpoints.llm]\nbase_url = "h"\nmodel = "m"', "http:// or https://"),
        (
            'source = "v"\n[endpoints.llm]\nbase_url = "https://me:secret@h/v1"\nmodel = "m"',
            "api_key_env",
        ),
        (
            'source = "v"\n[splits]\ntrain = 0.9\nvalidation = 0.9\ntest = 0.1',
            r"splits: .* add up to 1.9, not 1$",
        ),
        ('source = "v"\n[topic_mix]\nWeather = 0.5', "no topic 'Weather'"),
        ("source = ", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BuildError, match=expected) as caught:
        read_settings(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_build_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="synth init"):
        read_settings(tmp_path)


def test_the_template_of_init_holds_the_defaults(tmp_path: Path) -> None:
    template = resources.files("hour_llava.videomarathon") / "build_template.toml"
    places = {
        "source": '"v"',
        "name": '"videomarathon"',
        "data_source": '"local"',
        "licence": "",
        "backend": '"auto"',
        "clip_preset": '"paper"',
        "min_minutes": "3",
        "max_minutes": "60",
        "endpoints": "",
    }
    text = Template(template.read_text()).substitute(places)
    assert read_settings(write(tmp_path, text)) == BuildSettings(source="v")


def test_judge_and_blind_are_the_llm_unless_given(tmp_path: Path) -> None:
    text = f'source = "v"\n[endpoints.llm]\n{LLM}[endpoints.captioner]\n{LLM}'
    endpoints = read_settings(write(tmp_path, text)).endpoints
    assert endpoints.of("judge") is endpoints.llm
    assert list(endpoints.by_role()) == ["captioner", "llm", "judge", "blind"]


def test_where_an_endpoint_runs_is_no_part_of_how_it_is_asked(tmp_path: Path) -> None:
    text = f'source = "v"\n[endpoints.llm]\n{LLM}[endpoints.captioner]\n{LLM}'
    here = read_settings(write(tmp_path, text)).endpoints.llm
    there = read_settings(write(tmp_path, text.replace("//h/", "//g/"))).endpoints.llm
    assert here is not None
    assert there is not None
    assert here.sampling() == there.sampling()
