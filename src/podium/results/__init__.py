"""What a study's folder shows, read once, in no language."""
