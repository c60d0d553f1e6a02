"""Planning and running studies: the only orchestrator."""
