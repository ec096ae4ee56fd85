"""Text from the outside, made safe to show: names, labels and paths in flows are whatever a sender chose."""

import re
import unicodedata

# Control, format (as the marks that reverse the reading direction), surrogate and private characters.
_UNSAFE = {"Cc", "Cf", "Cs", "Co"}


# Halves of characters; Python also keeps bytes of a file's name as such that are no UTF-8.
_HALF = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """Return text as a database can hold it: what UTF-8 has no bytes for becomes the sign for what cannot be read."""
    return _HALF.sub("\ufffd", text)


def size_text(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"  # noqa: PLR2004 - a gigabyte


def printable(text: str) -> str:
    """Return text with every character that could steer a terminal spelled out, newlines included."""
    if text.isprintable():
        return text
    return "".join(_spell_out(character) for character in text)


def _spell_out(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    return character.encode("unicode_escape").decode()
