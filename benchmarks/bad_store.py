"""A store that is slow and fails now and then: a shared folder, and a web server.

folder   system calls that open, look at or read files below a folder wait, and fail at random
         with what a shared folder answers while its server is away: EIO, ESTALE, ETIMEDOUT. A
         library that is loaded before all others does it, so that any process can run on it.
server   a web server on loopback that answers requests for files late, and at random with 503
         or 500, with half of the bytes, or by closing the connection
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.datasets.web import Web, serving

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int errors[] = {EIO, ESTALE, ETIMEDOUT};
static __thread unsigned seed;

static double number(const char *name) { const char *s = getenv(name); return s ? atof(s) : 0; }

/* Whether a call for a path is to fail; it waits first, now and then. */
static int fails(const char *path) {
    const char *below = getenv("BAD_FOLDER");
    if (!path || !below || strncmp(path, below, strlen(below))) return 0;
    const char *end = strrchr(path, '.');
    if (!end || (strcmp(end, ".png") && strcmp(end, ".jpg"))) return 0;
    if (!seed) seed = (unsigned)(getpid() * 7919u) ^ (unsigned)(size_t)&seed ^ (unsigned)time(0);
    if (rand_r(&seed) / (RAND_MAX + 1.0) < number("BAD_SLOW"))
        usleep(1000 * (rand_r(&seed) % 400));
    if (rand_r(&seed) / (RAND_MAX + 1.0) >= number("BAD_RATE")) return 0;
    errno = errors[rand_r(&seed) % 3];
    return 1;
}

static int fails_at(int fd) {
    char link[64], path[4096];
    if (!getenv("BAD_FOLDER") || fd < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return fails(path);
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define MODE mode_t mode = 0; if (flags & O_CREAT) { va_list a; va_start(a, flags); \
    mode = va_arg(a, mode_t); va_end(a); }
int open(const char *p, int flags, ...) { REAL(open); MODE
    return fails(p) ? -1 : real(p, flags, mode); }
int open64(const char *p, int flags, ...) { REAL(open64); MODE
    return fails(p) ? -1 : real(p, flags, mode); }
int stat(const char *p, struct stat *s) { REAL(stat); return fails(p) ? -1 : real(p, s); }
int stat64(const char *p, struct stat64 *s) { REAL(stat64); return fails(p) ? -1 : real(p, s); }
ssize_t read(int fd, void *to, size_t n) { REAL(read); return fails_at(fd) ? -1 : real(fd, to, n); }
ssize_t pread64(int fd, void *to, size_t n, off64_t at) { REAL(pread64);
    return fails_at(fd) ? -1 : real(fd, to, n, at); }
"""


def bad_folder(images: Path, folder: Path, *, rate: float, slow: float) -> dict[str, str]:
    """Return the environment of processes to which a folder is bad.

    Parameters
    ----------
    folder : Path
        Where the library is compiled; needs a C compiler.
    rate, slow : float
        The part of all calls that fail, and of those that wait up to 0.4 s.
    """
    library = folder / "bad_store.so"
    if not library.exists():
        (source := folder / "bad_store.c").write_text(SOURCE)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return {
        "LD_PRELOAD": str(library), "BAD_FOLDER": str(images), "BAD_RATE": str(rate),
        "BAD_SLOW": str(slow),
    }  # fmt: skip


class _Faults(dict[str, list[str]]):
    """Faults of a `Web` that come at random."""

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__()
        self._rate, self._random, self.count = rate, random.Random(seed), 0

    def get(self, key: str, default: object = None) -> object:
        return self if "." in key and self._random.random() < self._rate else default

    def __bool__(self) -> bool:
        return True

    def __missing__(self, key: str) -> list[str]:
        self.count += 1
        return [self._random.choice(["503", "500", "half"])]


@contextmanager
def bad_server(images: Path, *, rate: float, pause: float, seed: int = 0) -> Iterator[Web]:
    """Serve the files of a folder, badly."""
    files = {
        str(path.relative_to(images)): path.read_bytes()
        for path in sorted(images.rglob("*")) if path.is_file()
    }  # fmt: skip
    with serving(Web(files=files, faults=_Faults(rate, seed), pause=pause)) as web:
        yield web
