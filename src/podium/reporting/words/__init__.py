"""What a reader sees in words and numbers, in every language."""
