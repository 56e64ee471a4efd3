"""Tell URLs from paths, and take out of a URL what nobody may read: passwords and signatures."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from probe.errors import UsageError

HTTP = ("http", "https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_AS_PATH = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")  # what `Path` makes of a URL
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"]+")


def is_url(text: str) -> bool:
    """Whether a text is a URL of another machine; ``file://`` is a path."""
    found = _SCHEME.match(text)
    return found is not None and found[1].lower() != "file"


def without_file_scheme(text: str) -> str:
    """Return the path that a ``file://`` URL names; other texts as they are.

    Raises
    ------
    UsageError
        The URL names another machine.
    """
    if not text.lower().startswith("file://"):
        return text
    from urllib.request import url2pathname  # imports HTTP and TLS, too

    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{text}: names the machine {parts.netloc!r}; a file of this one is file:///PATH"
        )
    return url2pathname(parts.path)


def text_of(place: str | Path) -> str:
    """Return a path's text; of a URL that was made a `Path`, the URL."""
    text = place if isinstance(place, str) else place.as_posix()
    return without_file_scheme(_AS_PATH.sub(r"\1://", text, count=1))


def scheme_of(url: str) -> str:
    """Return the part of a URL before ``://``, in lower case."""
    return url.partition("://")[0].lower()


def public(text: str) -> str:
    """Return a URL without password, query and fragment; other texts as they are.

    A query may have the signature that gives the right to read. Of HTTP the user goes, too, since
    tokens are given as such.
    """
    if not is_url(text):
        return text
    scheme, _, rest = text.partition("://")
    if scheme.lower() in HTTP:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    user, at, server = host.rpartition("@")
    if at and scheme.lower() in HTTP:
        host = server
    elif at:
        host = f"{user.partition(':')[0]}@{server}"
    return f"{scheme}://{host}{slash}{path}"


def name_of(text: str) -> str:
    """Return the last part of a path or URL."""
    if not is_url(text):
        return Path(text).name
    path = public(text).partition("://")[2]
    return PurePosixPath(unquote(path) if scheme_of(text) in HTTP else path).name


def hide(text: str) -> str:
    """Return a text in which every URL is public."""
    return _IN_TEXT.sub(lambda found: public(found[0]), text)


configured: list[str] = []  # options that this command took out of a file


def typed_command(arguments: Sequence[str] | None = None) -> str:
    """Return the command line for a record: as it was typed, with what came out of a file.

    URLs in it are public, and bytes that are no UTF-8 are escaped.
    """
    words = [*sys.argv[1:], *configured] if arguments is None else arguments
    return f"probe {typed_words(words)}".encode("utf-8", "backslashreplace").decode()


def typed_words(words: Sequence[str]) -> str:
    """Return words as one types them; URLs in them are public."""
    return shlex.join(map(_public_word, words))


def _public_word(word: str) -> str:
    """Return a word of a command; a URL at its end, as in ``--dataset=https://...``, is public."""
    found = _SCHEME.search(word)
    return word if found is None else word[: found.start()] + public(word[found.start() :])


def absolute(place: str | Path) -> str:
    """Return a path as an absolute one; of a URL, what is public of it."""
    text = text_of(place)
    return public(text) if is_url(text) else os.path.abspath(Path(text).expanduser())
