"""Small copies of the images that a study's report shows."""

from __future__ import annotations

MOST_THUMBNAILS = 5000  # some 20 MB; a larger test set keeps a spread of its images
