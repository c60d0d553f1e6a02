"""This machine: devices, threads, memory, files, locks, caches, events, random numbers."""
