"""Publishing of a run on the Hugging Face Hub, with its model card."""
