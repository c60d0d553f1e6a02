"""Settings, study files and their schema."""
