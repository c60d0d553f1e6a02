"""Cells in processes of their own: on this machine, on a Ray cluster, on a Slurm cluster."""
