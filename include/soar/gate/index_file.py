"""Reads and keeps the index of the warning lists: the one module of the gate that touches files.

Reading the lists takes longer than a task should wait, so the index is kept in a file. Its name is a digest of all
that it follows from: the package's version, our decisions, and the modules that make it. It holds numbers and text
only, nothing that could be executed; a broken one is made again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import yaml
from pydantic import ValidationError

from include.soar.extract import names
from include.soar.gate import hosts, index_builder, intervals, warninglists
from include.soar.gate.index_builder import IndexBuilder, OwnList, own_list
from include.soar.gate.warninglists import UNDECIDED, UNDECIDED_OWN, Block, ListDecision, ListsError, WarningLists

PACKAGE = "pymispwarninglists"
#: Packages whose data or rules are in the index.
_PACKAGES = (PACKAGE, "idna", "tldextract")
#: Beside the decisions: a SOC's own lists.
OWN_FOLDER = "own"
DECISIONS = Path(__file__).resolve().parents[2] / "config/never_block/lists.yaml"

_MAGIC = b"never-block 1\n"
#: Modules that the index follows from, beside this one.
_MAKERS = (names, hosts, intervals, warninglists, index_builder)


@lru_cache(maxsize=1)
def shipped() -> WarningLists:
    """The installed package's lists under the project's decisions."""
    return load(DECISIONS, cache=cache_folder())


def load(decisions: Path, *, cache: Path | None) -> WarningLists:
    """
    The index, from ``cache`` if it is there; else it is made, and kept there if that folder can be written.

    :param cache: None keeps nothing
    :raises ListsError: the decisions or the package cannot be read
    """
    lists = package_lists()
    try:
        versions = [version(package).encode() for package in _PACKAGES]
        own = [part for path in own_files(decisions) for part in (path.as_posix().encode(), path.read_bytes())]
        parts = [_MAGIC, *versions, sys.byteorder.encode(), decisions.read_bytes(), *own]
    except OSError as error:
        raise ListsError(f"{decisions}: {error}") from None
    code = [Path(file).read_bytes() for file in (__file__, *(str(module.__file__) for module in _MAKERS))]
    key = hashlib.sha256(b"\0".join((*parts, *code))).hexdigest()[:32]
    path = cache / f"never-block-{key}.index" if cache else None
    if path and (kept := _read(path)):
        return kept
    made = build(read_decisions(decisions), lists, read_own(decisions), private_suffixes())
    if path:
        _write(path, made)
    return made


def cache_folder() -> Path:
    """
    In the environment that the package is installed in: who may write there may change our code as well, so the index
    is as safe as that. Where a task may not write (a container), the index is made at set-up.
    """
    return Path(sys.prefix) / "share/threat-response"


def package_lists() -> Path:
    """The folder that holds a folder per list, each with a ``list.json``. :raises ListsError: not installed"""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ListsError(f"{PACKAGE} is not installed: without its lists nothing well-known would be protected")
    return Path(found.submodule_search_locations[0]) / "data/misp-warninglists/lists"


def own_files(decisions: Path) -> list[Path]:
    """The SOC's own lists: ``own/NAME.txt`` beside the decisions, and ``own/NAME/list.json`` in MISP's form."""
    folder = decisions.parent / OWN_FOLDER
    return sorted((*folder.glob("*.txt"), *folder.glob("*/list.json")))


def read_own(decisions: Path) -> list[OwnList]:
    """
    The SOC's own lists with what the ``own`` section of the decisions says of them; without a word there, they refuse.

    :raises ListsError: naming the file, and the line that is neither an address, a network, a name nor a hash
    """
    decided = read_decisions(decisions, "own")
    lists = []
    for path in own_files(decisions):
        name = path.parent.name if path.name == "list.json" else path.stem
        decision = decided.get(name, UNDECIDED_OWN)
        try:
            contents = (
                [json.loads(path.read_bytes())] if path.name == "list.json" else own_list(path.read_text("utf-8"))
            )
        except (OSError, ValueError) as error:
            raise ListsError(f"{path}: {error}") from None
        lists += [OwnList(name, decision, content) for content in contents]
    return lists


def private_suffixes() -> list[str]:
    """
    The part of the public-suffix list that companies entered: names below which they let to anybody, as in
    ``github.io``; with ``*.`` where each name below is such a name itself.
    """
    import tldextract

    with_private, without = (
        tldextract.TLDExtract(
            suffix_list_urls=(), cache_dir=None, fallback_to_snapshot=True, include_psl_private_domains=private
        ).tlds
        for private in (True, False)
    )
    return sorted(set(with_private) - set(without))


def read_decisions(path: Path, section: str = "lists") -> dict[str, ListDecision]:
    """
    :param section: ``lists``, the package's, or ``own``
    :raises ListsError: naming file, list and problem
    """
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        lists = document["lists"] if section == "lists" else document.get(section) or {}
        listed = list(lists)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ListsError(f"{path}: {error}") from None
    decided = {}
    for name in listed:
        try:
            decided[name] = ListDecision.model_validate(lists[name])
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ListsError(f"{path}: {section}.{name}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return decided


def build(
    decisions: Mapping[str, ListDecision], folder: Path, own: Sequence[OwnList] = (), suffixes: Sequence[str] = ()
) -> WarningLists:
    """
    Read every list that counts. Of several that have an entry our own answer first, and the suffixes last.

    :param folder: holds a folder per list, as in the package. A list that is not there is passed over.
    :param suffixes: see :func:`private_suffixes`
    :raises ListsError: a list cannot be read
    """
    builder = IndexBuilder()
    for name, decision, content in own:
        if decision.use != "ignore":
            try:
                builder.add(f"own:{name}", decision, content)
            except (KeyError, TypeError, ValueError) as error:
                raise ListsError(f"own list {name}: {error}") from None
    there = sorted(path.parent.name for path in folder.glob("*/list.json"))
    decided = [name for name in decisions if name in set(there)]
    for name in (*decided, *(name for name in there if name not in decisions)):
        decision = decisions.get(name, UNDECIDED)
        if decision.use == "ignore":
            continue
        path = folder / name / "list.json"
        try:
            builder.add(name, decision, json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ListsError(f"{path}: {error}") from None
    builder.add_suffixes(suffixes)
    return builder.index()


def _read(path: Path) -> WarningLists | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    # A checksum, not a signature: it detects a full disk, not an attacker (see cache_folder).
    body = memoryview(content)[len(_MAGIC) + 4 :]
    if content[: len(_MAGIC)] != _MAGIC or content[len(_MAGIC) :][:4] != zlib.crc32(body).to_bytes(4, "big"):
        return None
    size = int.from_bytes(body[:4], "big")
    head = json.loads(bytes(body[4 : 4 + size]))
    sections: dict[str, Block] = {}
    at = 4 + size
    for name, length in head.pop("sections"):
        sections[name] = body[at : at + length]
        at += length
    return WarningLists(head, sections)


def _write(path: Path, made: WarningLists) -> None:
    sections = [[name, len(content)] for name, content in made.sections.items()]
    head = json.dumps({**made.head, "sections": sections}).encode()
    body = b"".join((len(head).to_bytes(4, "big"), head, *made.sections.values()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under a name of its own until it is complete: several processes may write one at once.
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(_MAGIC + zlib.crc32(body).to_bytes(4, "big") + body)
                file.flush()
                part.chmod(0o644)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        # An environment has one version of package, code and decisions: an index of others is of no use.
        for old in path.parent.glob("never-block-*.index"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError:
        return  # A folder that cannot be written costs time at the next load, not an answer.
