"""What prose and code do to names and numbers: ``setup.py`` is a file, ``os.path`` code, ``Chrome/120.0.0.0`` no host.

Only a bare name in the middle of a text is doubted: never what was defanged, the host of a URL, or a field that holds
nothing else.
"""

from __future__ import annotations

import re

from include.soar.extract.values import word_set

_HYPHEN_OR_DIGIT = re.compile(r"[-0-9]")
_LAST_WORD = re.compile(r"[A-Za-z§]+$")
#: Words before a number of four parts that is no address.
_VERSIONED = word_set(
    """
    version versions ver release build rev v firmware driver update patch kernel section sections chapter figure
    table paragraph clause oid § openssl openssh apache nginx php java jquery windows chrome chromium firefox
    safari edge edg opera android linux python curl wordpress tomcat acrobat reader flash office exchange player
    """
)

#: Top-level domains that in prose are far more often the ending of a file than that of a host.
_FILE_LIKE_TLDS = word_set("zip mov py sh pl rs ps md so java cab")
_NEVER_A_HOST = word_set("py java zip md")
#: First labels of code rather than of names: ``this.name``, ``os.path``, ``window.open``.
_CODE = word_set(
    """
    this self window document console request response req res event math json object array string system std os
    sys np pd e el obj item node data ctx config log logger options params args module exports process path fs app
    router operator datetime
    """
)
#: Top-level domains that are far more often an attribute (``result.name``) than the end of a name, unless that has a
#: hyphen, a digit or a www.
_ATTRIBUTE_TLDS = word_set(
    """
    abc bar black blue build call case cat codes construction data day events foo green int map name new open prod
    properties read red select security storage style target
    """
)
#: Java and its kin name packages by reversed domains: ``com.example.foo.Bar``, ``org.apache.commons.io``.
_REVERSED = word_set(
    """
    com org net edu gov io java javax jakarta sun android androidx kotlin scala de me
    """
)
#: Top-level domains under which a bare name is hardly ever anything but a name.
_PLAIN_TLDS = word_set(
    """
    com net org edu gov mil info biz example ru cn de uk fr nl br jp kr ua eu top xyz online onion
    """
)
_PLATFORMS = frozenset({"ASP.NET", "VB.NET", "ADO.NET", "ML.NET"})


def is_version(text: str, start: int, written: str) -> bool:
    """Whether a number of four parts is the version of a program, or that of a section, rather than an address."""
    before = text[start - 14 if start > 14 else 0 : start].rstrip(" :=/.\"'(")
    word = before.rpartition(" ")[2]
    if not word.isalpha():
        match = _LAST_WORD.search(word)
        if match is None:
            return False
        word = match[0]
    return word.lower() in _VERSIONED or (written.endswith(".0") and text[start - 1] == "/")


def is_name(text: str, start: int, written: str) -> bool:
    """Whether what could be a domain is one, and no file, package, piece of code, or end of a sentence."""
    end = start + len(written)
    first, _, rest = written.partition(".")
    last = rest.rpartition(".")[2]
    tld, reversed_name = last.lower(), "." in rest and first.lower() in _REVERSED
    before = text[start - 1] if start else ""
    if before == "$" or text[start - 2 : start] == "::" or (before == "\\" and text[start - 2 : start] != "\\\\"):
        return False
    if tld in _PLAIN_TLDS and not (tld == "info" and first.lower() in _CODE):
        return written not in _PLATFORMS and not (reversed_name and last != tld)
    if tld in _ATTRIBUTE_TLDS and first != "www" and not _HYPHEN_OR_DIGIT.search(written):
        return False
    if tld == "app" and first[0].isupper():  # Safari.app
        return False
    if tld in _FILE_LIKE_TLDS and ("." not in rest or tld in _NEVER_A_HOST):
        return False
    if reversed_name or first.lower() in _CODE or text[end : end + 1] == "(":
        return False
    # "the end.It was" is two sentences, "Dr.No" is a person; "EVIL.IT" and "evil.it" are names.
    return not (last[0].isupper() and last[1:].islower())
