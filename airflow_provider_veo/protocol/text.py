"""Texts for people: made short."""

from __future__ import annotations


def shortened(text: str, characters: int) -> str:
    """Cut a text that is longer than so many characters, and say so."""
    return text if len(text) <= characters else f"{text[: characters - 1]}… ({len(text)} characters)"


def first_line(error: object) -> str:
    """Return what an error says first: what was attempted, and what came back."""
    return str(error).partition("\n")[0]
