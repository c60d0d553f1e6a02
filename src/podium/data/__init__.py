"""Data sets of images: found, checked, downloaded or generated."""
