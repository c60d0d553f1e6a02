"""What is asked: settings, study files and their schema."""
