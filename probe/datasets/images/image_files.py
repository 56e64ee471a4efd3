"""Recognise image files by their endings, or by their first bytes where the ending is unknown."""

from __future__ import annotations

import os
import re
from collections import Counter

from probe.core.regular import open_regular

# Endings that make a file an image without reading it.
EXTENSIONS = frozenset(
    (
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".gif", ".tif",
        ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc",
        ".avif", ".avifs", ".tga", ".apng", ".mpo",
    )
)  # fmt: skip
# Endings that never make a file an image. Raw photographs and slides begin like TIFF, thumbnails of
# cameras like JPEG, and backup copies like their originals.
OTHERS = frozenset(
    (
        ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst", ".html",
        ".htm", ".ini", ".cfg", ".log", ".py", ".ipynb", ".m", ".sh", ".db", ".sqlite", ".pdf",
        ".zip", ".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".npy", ".npz", ".mat", ".h5",
        ".hdf5", ".pkl", ".pickle", ".pt", ".pth", ".parquet", ".tfrecord", ".rec", ".idx", ".lst",
        ".mp4", ".avi", ".mov", ".mkv", ".webm", ".mp3", ".wav", ".flac", ".svg", ".eps", ".ps",
        ".psd", ".xcf", ".ai", ".heic", ".heif", ".dcm", ".nii", ".svs", ".ndpi", ".scn", ".mrxs",
        ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".orf", ".rw2", ".pef", ".raf", ".srw",
        ".thm", ".bak", ".tmp", ".part", ".crdownload", ".orig", ".old", ".lnk", ".url", ".mdb",
        ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx",
    )
)  # fmt: skip
# Folders that programs create beside images, such as thumbnails. Hidden names, which begin with a
# dot, are treated alike.
LEAVINGS = frozenset(
    (
        "@eadir", "@tmp", "#recycle", "#snapshot", "__macosx", "__pycache__", "$recycle.bin",
        "system volume information", "lost+found", "thumbs", "thumbnails", "_thumbs",
        "_thumbnails",
    )
)  # fmt: skip
_SHOWN = 8  # endings
NOT_UTF8 = "the name is not UTF-8"
_LEFT_BY_SYSTEMS = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
_MARKS = {
    name: re.compile(mark, re.DOTALL)
    for name, mark in {
        "JPEG": rb"\xff\xd8\xff",
        "PNG": rb"\x89PNG\r\n\x1a\n",
        "GIF": rb"GIF8[79]a",
        "WEBP": rb"RIFF....WEBP",
        "TIFF": rb"II[*+]\0|MM\0[*+]",
        "PPM": rb"P[1-6][ \t\r\n#]",
        "JPEG2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
        "AVIF": rb"....ftypavi[fs]",
    }.items()
}
# Other kinds of files that are found under names of images, and are not read.
_FOREIGN = {
    name: re.compile(mark, re.DOTALL | re.IGNORECASE)
    for name, mark in {
        "a HEIC image": rb"....ftyp(hei|hev|mif1|msf1)",
        "a JPEG XL image": rb"\xff\x0a|\0\0\0\x0cJXL ",
        "a Photoshop file": rb"8BPS",
        "an icon": rb"\0\0\x01\0[^\0]\0",
        "an EPS or PostScript file": rb"%!PS|\xc5\xd0\xd3\xc6",
        "a PDF": rb"%PDF-",
        "an SVG drawing": rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg",
        "a web page": rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?(<!DOCTYPE html|<html|<head|<body)",
        "a pointer of Git LFS (`git lfs pull` fetches the file)": rb"version https://git-lfs",
        "JSON": rb"\s*[{\[]\s*[\"{\]}]",
        "a ZIP archive": rb"PK\x03\x04",
        "a gzip archive": rb"\x1f\x8b",
        "a video": rb"....ftyp(isom|iso2|mp4|m4v|qt  |avc1|3gp|dash)|\x1a\x45\xdf\xa3|RIFF....AVI ",
        "a DICOM image": rb".{128}DICM",
        "a file that begins with zeros": rb"\0{64}",
    }.items()
}
_FIRST_BYTES = 32
_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))  # their sizes


def is_leavings(name: str) -> bool:
    """Whether a folder or file is hidden, or created by a program beside the data."""
    return name.startswith(".") or name.lower() in LEAVINGS or name.lower() in _LEFT_BY_SYSTEMS


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_utf8(name: str) -> bool:
    """Whether a file name is UTF-8, without the surrogates that Python puts for other bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """Return a file name as one printable line, with undecodable bytes escaped."""
    plain = os.fsencode(name).decode("utf-8", "backslashreplace")
    return plain.replace("\n", "\\n").replace("\r", "\\r")


def ending(name: str) -> str:
    """Return a name's ending with its dot, in lower case, or ``""``."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def left_out(endings: Counter[str]) -> str:
    """Return a warning that counts the files left out, by ending."""
    total = sum(endings.values())
    counts = ", ".join(
        f"{count:,} {shown(name) or 'without an ending'}"
        for name, count in endings.most_common(_SHOWN)
    )
    return (
        f"left out {'1 file that is' if total == 1 else f'{total:,} files that are'} no image to "
        f"be read: {counts}" + (", ..." if len(endings) > _SHOWN else "")
    )


def is_image_name(name: str) -> bool:
    """Whether the name alone shows that a file is an image."""
    return ending(name) in EXTENSIONS and not name.startswith(".")


def is_image_file(path: str, name: str | None = None) -> bool:
    """Whether a file is an image; its first bytes are read only where the ending is unknown.

    Parameters
    ----------
    name : str, optional
        The last part of the path, where the caller has it already.
    """
    name = os.path.basename(path) if name is None else name
    known = ending(name)
    if known in EXTENSIONS or known in OTHERS or name.endswith("~"):
        return known in EXTENSIONS
    try:
        with open_regular(path, buffering=0) as file:
            return format_of(file.read(_FIRST_BYTES)) is not None
    except OSError:
        return False


def format_of(data: bytes) -> str | None:
    """Return Pillow's name of the format that a file's first bytes show, or None."""
    for name, pattern in _MARKS.items():
        if pattern.match(data):
            return name
    header = int.from_bytes(data[14:18], "little")
    return "BMP" if data.startswith(b"BM") and header in _BMP_HEADERS else None


def foreign(data: bytes) -> str | None:
    """Describe a file that is not a readable image by its first bytes; None where unknown."""
    return next((name for name, mark in _FOREIGN.items() if mark.match(data[:2048])), None)
