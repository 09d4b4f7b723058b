"""Content negotiation by the header Accept (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence


def preferred(accept: str, offers: Sequence[str]) -> str:
    """Return the one of `offers`, content types in the server's order of preference, that `accept` prefers.

    If the header is absent, malformed, or accepts none of them, return the first: an answer is more useful than an
    error.
    """
    weights = dict(_parse(part) for part in accept.lower().split(",") if part.strip())
    return max(offers, key=lambda offer: _weight(weights, offer))


def _weight(weights: dict[str, float], offer: str) -> tuple[float, int]:
    """Return the weight of an offer, and how exactly the header names it: of equal weights, the exact name wins."""
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
