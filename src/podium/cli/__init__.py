"""The `podium` command: it calls the package and prints; nothing is computed here."""
