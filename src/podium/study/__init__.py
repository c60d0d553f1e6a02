"""Plan, cells, outcome: the only orchestrator."""
