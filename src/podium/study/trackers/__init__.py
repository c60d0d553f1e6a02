"""Trackers: where a study's figures go while it runs: TensorBoard, MLflow or the user's own."""
