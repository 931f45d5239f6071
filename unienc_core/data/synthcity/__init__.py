"""A driving world with exact ground truth."""

from unienc_core.data.synthcity.config import CityConfig
from unienc_core.data.synthcity.render import City

__all__ = ["City", "CityConfig"]
