"""The figures of a report, each drawn by a task that can run in any process."""
