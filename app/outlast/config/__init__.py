"""Settings: names, defaults and sources."""

from outlast.config.settings import Settings, load_settings

__all__ = ["Settings", "load_settings"]
