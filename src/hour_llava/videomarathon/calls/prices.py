"""What a token costs: from the endpoint's settings, else from `prices.toml`, else unknown."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hour_llava.errors import BudgetError

if TYPE_CHECKING:
    from hour_llava.videomarathon.settings import EndpointSettings


@dataclass(frozen=True, kw_only=True)
class Price:
    """US dollars for a million tokens; `source` says where it was read."""

    input: float
    output: float
    source: str

    def usd(self, *, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost."""
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


def price_of(endpoint: EndpointSettings) -> Price | None:
    """Find an endpoint's price; None when nobody knows it."""
    given = endpoint.usd_per_million_input, endpoint.usd_per_million_output
    if given[0] is not None and given[1] is not None:
        return Price(input=given[0], output=given[1], source="the endpoint's settings")
    host = urlsplit(endpoint.base_url).hostname or ""
    return _table().get((host, endpoint.model))


def require_prices(endpoints: Iterable[EndpointSettings]) -> None:
    """Refuse `--max-usd` where a price is unknown.

    Raises:
        BudgetError: names the endpoint and what to set.
    """
    for endpoint in endpoints:
        if price_of(endpoint) is None:
            raise BudgetError(
                f"--max-usd cannot be kept: nobody knows what {endpoint.model} at "
                f"{urlsplit(endpoint.base_url).hostname} costs; set its usd_per_million_input and "
                "usd_per_million_output in build.toml (0 for a model of your own), or take "
                "--max-calls or --max-tokens"
            )


@functools.cache
def _table() -> Mapping[tuple[str, str], Price]:
    text = (resources.files("hour_llava.videomarathon.calls") / "prices.toml").read_text(
        encoding="utf-8"
    )
    return MappingProxyType(
        {
            (row["host"], row["model"]): Price(
                input=row["input"], output=row["output"], source=f"{row['source']} {row['checked']}"
            )
            for row in tomllib.loads(text)["price"]
        }
    )
