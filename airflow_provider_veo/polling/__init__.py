"""Polling the relay for videos, no faster than it may be polled."""
