"""A new enrichment provider, whole: its folder, simulator, samples, tests and its line in each shared file.

What is written runs at once, against an imaginary API, with green tests. ``CHANGE:`` marks what is the vendor's. The
policy gets reliability F, so that its word counts for nothing until a person has graded it.
"""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).parent / "templates"

#: Place in the project -> template, which is that of the provider ``acme_intel``; ``""`` is an empty file.
FILES = {
    "plugins/threat_response/vendors/acme_intel/__init__.py": "",
    "plugins/threat_response/vendors/acme_intel/vendor.py": "vendor.py",
    "plugins/threat_response/vendors/acme_intel/api.py": "api.py",
    "plugins/threat_response/vendors/acme_intel/hook.py": "hook.py",
    "plugins/threat_response/vendors/acme_intel/README.md": "README.md",
    "include/simulators/acme_intel/__init__.py": "simulator.py",
    "tests/vendors/acme_intel/__init__.py": "",
    "tests/vendors/acme_intel/samples/lookup.json": "lookup.json",
    "tests/vendors/acme_intel/test_api.py": "test_api.py",
    "tests/vendors/acme_intel/test_hook.py": "test_hook.py",
    "tests/vendors/acme_intel/case.py": "case.py",
    "tests/vendors/acme_intel/test_simulator.py": "test_simulator.py",
}
REGISTRY, SIMULATORS = "plugins/threat_response/registry.py", "include/simulators/app.py"
POLICY = "include/config/policy.yaml"
SHARED = (REGISTRY, SIMULATORS, POLICY)

REGISTRY_LINE = '        "acme_intel",\n'
SIMULATORS_LINE = '    "acme_intel": "AcmeIntelSimulator",\n'
GRADE = """\
  acme_intel:
    reliability: F            # CHANGE: F has no weight
    malicious_from: 75
    suspicious_from: 25
"""
#: A longer name would break the lines of what is written.
LONGEST_NAME = 24


class NewVendorError(ValueError):
    """Nothing was written; the message says why."""


def scaffold(name: str, root: Path = ROOT) -> list[Path]:
    """
    Write the provider ``name`` into the project at ``root``.

    :return: what was written, the shared files last
    :raises NewVendorError: the name cannot be one, is taken, or a shared file is not as it was. Nothing is written then
    """
    check_name(name)
    strange = [path for path in SHARED if not (root / path).is_file()]
    if strange:
        raise NewVendorError(f"{root} is no copy of this project: it has no {strange[0]}")
    written = {root / _named(path, name): _named(_template(file), name, file) for path, file in FILES.items()}
    places = [
        f"{folder}/{name}{suffix}"
        for folder in ("plugins/threat_response/vendors", "tests/vendors")
        for suffix in ("", ".py")
    ]
    taken = [path for path in (*places, *(_named(file, name) for file in FILES)) if (root / path).exists()]
    if taken:
        raise NewVendorError(f"{name} exists already: {taken[0]}")
    edits: dict[str, Callable[[str], str]] = {
        REGISTRY: lambda text: _with_name(text, "enrich", _named(REGISTRY_LINE, name)),
        SIMULATORS: lambda text: _with_entry(text, "SIMULATORS", _named(SIMULATORS_LINE, name)),
        POLICY: lambda text: _with_grade(text, _named(GRADE, name)),
    }
    for path, edit in edits.items():
        try:
            written[root / path] = edit((root / path).read_text("utf-8"))
        except _NotFound as error:
            raise NewVendorError(f"{path}: no place for {name}: {error}") from None
    for target, text in written.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    return list(written)


def check_name(name: str) -> None:
    """:raises NewVendorError: ``name`` cannot be a folder's, a module's and a connection type's name"""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise NewVendorError(f"{name!r} is no name of a module such as acme_intel: lower-case letters, digits and _")
    if len(name) > LONGEST_NAME:
        raise NewVendorError(f"{name!r} is longer than {LONGEST_NAME} characters")
    if name == "akamai":
        raise NewVendorError("'akamai' is a package of Akamai's: name the product, e.g. akamai_sia")
    if name in sys.stdlib_module_names:
        raise NewVendorError(f"{name!r} is a module of Python's standard library")


def _template(file: str) -> str:
    return (TEMPLATES / f"{file}.tmpl").read_text("utf-8") if file else ""


def _named(text: str, name: str, file: str = "") -> str:
    """A template's text, or a path, for another name than ``acme_intel``."""
    words = [word.capitalize() for word in name.split("_")]
    spelled = {
        "acme_intel": name,
        "acme-intel": name.replace("_", "-"),
        "AcmeIntel": "".join(words),
        "Acme Intel": " ".join(words),
    }
    text = re.sub("|".join(spelled), lambda match: spelled[match[0]], text)
    return _with_imports_in_order(text) if file.endswith(".py") else text


class _NotFound(ValueError):
    """What an edit looked for is not there."""


def _by_number(line: str) -> list[tuple[int, str]]:
    """As isort orders modules: ``feed9`` before ``feed10``."""
    module = line.split()[1]
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", module)]


def _with_imports_in_order(text: str) -> str:
    """Whether the new vendor comes before another module depends on its name."""
    block = re.compile(r"(?:^from (?:include|tests|threat_response)\S* import [^(\n]+\n)+", re.M)
    return block.sub(lambda match: "".join(sorted(match[0].splitlines(True), key=_by_number)), text)


def _inserted(text: str, line: int, addition: str) -> str:
    """``addition`` before the given line, counted from 1. What comes out is still Python, else this is no place."""
    lines = text.splitlines(keepends=True)
    text = "".join([*lines[: line - 1], addition, *lines[line - 1 :]])
    try:
        ast.parse(text)
    except SyntaxError:
        raise _NotFound("its last entry does not stand on a line of its own") from None
    return text


def _dictionary(text: str, variable: str) -> ast.Dict:
    for node in ast.parse(text).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and target.id == variable:
                return node.value
    raise _NotFound(f"no dictionary {variable}")


def _with_entry(text: str, variable: str, addition: str) -> str:
    """``addition`` as the last entry of the dictionary ``variable``."""
    return _inserted(text, _dictionary(text, variable).end_lineno or 0, addition)


def _with_name(text: str, stage: str, addition: str) -> str:
    """``addition`` as the last vendor of a stage of the registry."""
    serves = _dictionary(text, "SERVES")
    for key, value in zip(serves.keys, serves.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == stage and isinstance(value, ast.Tuple):
            return _inserted(text, value.end_lineno or 0, addition)
    raise _NotFound(f"SERVES has no tuple {stage!r}")


def _with_grade(text: str, addition: str) -> str:
    """``addition`` at the end of the policy's section ``sources``; as text, since its comments are half of it."""
    section = re.search(r"^sources:.*\n(?:[ \t]+\S.*\n)+", text, re.M)
    if section is None:
        raise _NotFound("no section sources")
    return text[: section.end()] + addition + text[section.end() :]
