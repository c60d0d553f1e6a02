"""Advice for the next study: each rule has a file of its own, with the evidence that it takes."""
