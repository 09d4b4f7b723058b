"""Settings: their names, defaults and where they come from."""

from outlast.config.settings import Settings, load_settings

__all__ = ["Settings", "load_settings"]
