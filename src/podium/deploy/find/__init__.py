"""Resolution of paths and addresses to trained models."""
