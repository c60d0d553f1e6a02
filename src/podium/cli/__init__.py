"""The `podium` command: it calls the package and prints results; it computes nothing itself."""
