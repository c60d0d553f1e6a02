"""Trackers: where a study's figures go while it runs, TensorBoard, MLflow or a user's own."""
