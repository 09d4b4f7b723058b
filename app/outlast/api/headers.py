"""Headers of every response."""

from collections.abc import Mapping

from aiohttp import hdrs

FIXED: Mapping[str, str] = {hdrs.SERVER: "Outlast", "X-Content-Type-Options": "nosniff"}
"""Headers that no response may have otherwise."""

DEFAULT: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    hdrs.CACHE_CONTROL: "no-store",
}
"""Headers of every response that does not say otherwise."""
