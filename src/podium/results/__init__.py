"""The results of a study folder, read once and independent of language."""
