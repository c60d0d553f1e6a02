"""Predictions for pictures from anywhere."""
