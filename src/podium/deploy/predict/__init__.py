"""Predictions for images from any place."""
