"""Folders of images: found, checked, fetched or made."""
