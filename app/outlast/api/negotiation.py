"""Which form of an answer a caller prefers (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence


def preferred(accept: str, offers: Sequence[str]) -> str:
    """Choose one of `offers`, content types in our order of preference, by the header `Accept`.

    The first offer if the header is absent, malformed, or takes none of them: an answer is more use than an
    error.
    """
    weights = dict(_parse(part) for part in accept.lower().split(",") if part.strip())
    return max(offers, key=lambda offer: _weight(weights, offer))


def _weight(weights: dict[str, float], offer: str) -> tuple[float, int]:
    """Return the offer's weight, and how exactly it is named (of equal weights, the one asked for by name is meant)."""
    group = f"{offer.partition('/')[0]}/*"
    names = ("*/*", group, offer)
    weight, exactness = next(((weights[names[i]], i) for i in (2, 1, 0) if names[i] in weights), (0.0, 0))
    return (weight, exactness) if weight else (0.0, 0)


def _parse(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, float(value)
            except ValueError:
                return name, 0.0
    return name, 1.0
