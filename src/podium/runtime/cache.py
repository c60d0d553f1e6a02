"""Where Podium keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_root() -> Path:
    """The cache folder: `PODIUM_CACHE`, or the user's cache folder of this system."""
    return Path(os.environ.get("PODIUM_CACHE") or platformdirs.user_cache_dir("podium"))
