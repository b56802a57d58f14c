"""Atomic writes to local files and object storages."""
