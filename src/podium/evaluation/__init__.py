"""A trained model on images: inference, description, Grad-CAM."""
