"""A run to the Hugging Face Hub, with its model card."""
