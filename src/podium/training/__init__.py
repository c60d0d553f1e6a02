"""The epoch loop, optimizers, schedules, the linear probe, checkpoints."""
