"""x"""

from podium.study.engines.driver import ProcessExecutor


class Slurm(ProcessExecutor):
    """x"""
