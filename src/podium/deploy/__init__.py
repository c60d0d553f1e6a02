"""A finished run in use: predictions of new pictures, exports, a server, a model card.

Everything here reads a run's folder (or an export that was made of one) and trains nothing.
"""
