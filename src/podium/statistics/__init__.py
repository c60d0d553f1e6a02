"""Pure functions on predictions: metrics, calibration, paired tests, verdicts, power."""
