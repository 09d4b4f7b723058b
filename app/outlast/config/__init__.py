"""Settings: names, defaults and sources."""

from outlast.config.settings import DATABASE_NAME, Settings, load_settings

__all__ = ["DATABASE_NAME", "Settings", "load_settings"]
