"""What Podium is put through: kills, faults, hostile files. `python -m torture` does all of it."""
