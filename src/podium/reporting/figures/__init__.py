"""The figures of a report, each a task that any process can draw."""
