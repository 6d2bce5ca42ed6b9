"""What models cost: prices from the kept library genai-prices (extra `llm`), so that an agent can report its spending.

ctx.spend(**usage_of("gpt-4o", input_tokens=812, output_tokens=64))
"""

from __future__ import annotations

from typing import Any, TypedDict

from pointsman.kernel.errors import PointsmanError


class UnknownPrice(PointsmanError):
    """The price of this model is not known; report dollars of your own with ctx.spend(usd=...)."""

    code = "unknown_price"
    status = 422


class PricesMissing(PointsmanError):
    """Prices of models need the extra llm: pip install "pointsman[llm]"."""

    code = "prices_missing"
    status = 501


class Spending(TypedDict):
    """The arguments of `Context.spend`."""

    usd: float
    tokens: int


def usd_of(model: str, input_tokens: int, output_tokens: int, provider: str | None = None) -> float:
    """Dollars that a request to a model costs, by today's list price.

    Args:
        model: as the provider names it, e.g. `gpt-4o`.
        provider: e.g. `openai`; without it, the one that the model's name suggests.

    Raises:
        UnknownPrice: no such model or provider is listed.
        PricesMissing: genai-prices is not installed.
        ValueError: a negative number of tokens.
    """
    for name, count in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
        if count < 0:
            raise ValueError(f"{name}={count}: 0 or more")
    library = _library()
    usage = library.Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    try:
        price = library.calc_price(usage, model, provider_id=provider)
    except LookupError as error:
        where = f" of {provider}" if provider is not None else ""
        raise UnknownPrice(
            f"no price is known for model {model!r}{where} ({error}): correct the name, name its provider, update "
            "genai-prices, or report dollars of your own with ctx.spend(usd=...)"
        ) from error
    return float(price.total_price)


def usage_of(model: str, *, input_tokens: int, output_tokens: int, provider: str | None = None) -> Spending:
    """What `Context.spend` takes, for one request to a model. Raises what `usd_of` raises."""
    usd = usd_of(model, input_tokens, output_tokens, provider)
    return Spending(usd=usd, tokens=input_tokens + output_tokens)


def _library() -> Any:
    """Imported when it is first needed: it is an extra, and its table of prices takes a while to load."""
    try:
        import genai_prices
    except ModuleNotFoundError as error:
        raise PricesMissing from error
    return genai_prices
