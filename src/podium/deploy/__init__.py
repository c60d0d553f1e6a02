"""Using a finished run: predictions for new images, exports, a server, a model card.

Everything here reads a run's folder (or an export made from it) and trains nothing.
"""
