"""The texts and number formats of the report, in every language."""
