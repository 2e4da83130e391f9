"""Reads what the SOC decided: the policy as YAML in layers, with the line of each mistake, and the files it names."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from include.soar.gate.asn import AsnTable
from include.soar.policy.rules import BlockPolicy, Policy, PolicyError

#: The shipped profiles of the section ``response``, one a file.
PROFILES = Path(__file__).resolve().parents[2] / "config/profiles"
#: Where fields of earlier releases are now.
MOVED = {
    ("block", "evidence"): "response.rungs.block_long.evidence (docs/decisions/0021-response-by-degrees.md)",
    ("block", "days"): "response.rungs.block_long.hours, in hours (docs/decisions/0021-response-by-degrees.md)",
    ("block", "approval"): "response.approval (docs/decisions/0021-response-by-degrees.md)",
}


def stored_policy(document: Mapping[str, Any]) -> Policy:
    """
    A policy again from its :attr:`Policy.document`.

    :raises PolicyError: it was stored by a release whose policies had other fields
    """
    try:
        return Policy.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise PolicyError(f"the stored policy: {'.'.join(map(str, first['loc']))}: {_words(first)}") from None


def load_policy(
    paths: Sequence[Path],
    *,
    providers: Collection[str] = (),
    controls: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Policy:
    """
    The policy of the first file, with each later file laid over it: mappings are merged, everything else replaced.

    :param providers: those that there are; a policy that asks another is wrong. Empty: any may be asked
    :param controls: the vendors of the controls that there are, by place (``block.waf``); a policy that names another
        place or vendor is wrong. Empty: any may be named
    :raises PolicyError: ``file:line: field: problem`` for each problem, one a line. The file and line are those of
        the layer that the value came from
    """
    below: _Node | None = None
    for path in paths:
        node = _mapping(path)
        below = node if below is None else _overlay(below, node)
    if below is None:
        raise PolicyError("there is no policy file")
    below = _over_its_profile(below)
    try:
        # As JSON and strict: a quoted number or a yes is refused, and a list is still a tuple.
        policy = Policy.model_validate_json(json.dumps(below.plain(), default=str), strict=True)
    except ValidationError as error:
        problems = [_where(below, e["loc"]) + _words(e) for e in error.errors(include_url=False)]
        raise PolicyError("\n".join(problems)) from None
    problems = [*_unknown_providers(policy, below, providers)] if providers else []
    problems += _unknown_controls(below, controls) if controls else []
    if problems:
        raise PolicyError("\n".join(problems))
    return policy


def _mapping(path: Path) -> _Node:
    node = _read(path)
    if not isinstance(node.value, dict):
        raise PolicyError(f"{path}:1: is not a mapping")
    return node


def _over_its_profile(policy: _Node) -> _Node:
    """The policy over the profile that it names, if it names one. What else is wrong with it the schema says."""
    section = policy.value.get("response")
    named = section.value.get("profile") if section and isinstance(section.value, dict) else None
    if named is None or not isinstance(named.value, str):
        return policy
    known = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if named.value not in known:
        problem = f"{named.value!r} is none of {', '.join(known)}"
        raise PolicyError(f"{_where(policy, ('response', 'profile'))}{problem}")
    return _overlay(_mapping(PROFILES / f"{named.value}.yaml"), policy)


def _unknown_providers(policy: Policy, root: _Node, known: Collection[str]) -> Iterator[str]:
    """Wherever the policy speaks of a provider by name: a slip there would silently give it no quota or no limit."""
    rules = policy.enrichment
    places: list[tuple[str | int, ...]] = [
        *(("providers", n) for n in range(len(rules.providers))),
        *(("quotas", name) for name in rules.quotas),
        *(("tlp", "providers", name) for name in rules.tlp.providers),
    ]
    for place in places:
        name = rules.providers[place[1]] if isinstance(place[1], int) else str(place[-1])
        if name not in known:
            yield f"{_where(root, ('enrichment', *place))}{name!r} is none of {', '.join(sorted(known))}"


def _unknown_controls(root: _Node, known: Mapping[str, Collection[str]]) -> Iterator[str]:
    """A slip would silently switch off another control than was meant, or none; or leave a rung without one."""
    vendors = {vendor for some in known.values() for vendor in some}
    response = root.value["response"].value
    off = response.get("switched_off")
    named: list[tuple[tuple[str | int, ...], Any, set[str]]] = [
        (("switched_off", n), node.value, vendors) for n, node in enumerate(off.value if off else ())
    ]
    for rung, rules in response["rungs"].value.items():
        places = enumerate(rules.value["controls"].value)
        named += [(("rungs", rung, "controls", n), node.value, set(known)) for n, node in places]
    for place, name, names in named:
        if name not in names:
            yield f"{_where(root, ('response', *place))}{name!r} is none of {', '.join(sorted(names))}"


def asn_table(block: BlockPolicy) -> AsnTable | None:
    """
    The table of ``block.asn_table``, None without one. Kept until the file changes: reading it takes seconds.

    :raises PolicyError: naming the field and the file, which is missing or no such table
    """
    if block.asn_table is None:
        return None
    try:
        changed_at = Path(block.asn_table).stat().st_mtime_ns
        return _asn_table(block.asn_table, changed_at)
    except FileNotFoundError:
        raise PolicyError(f"block.asn_table: {block.asn_table}: no such file") from None
    except (OSError, EOFError, ValueError) as error:
        raise PolicyError(f"block.asn_table: {block.asn_table}: {error}") from None


@lru_cache(maxsize=1)
def _asn_table(path: str, changed_at: int) -> AsnTable:
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
        return AsnTable(lines)


@dataclass(frozen=True)
class _Node:
    """A value of a YAML file with its file and line. The value's children are nodes as well."""

    value: Any
    file: Path
    line: int

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        return [child.plain() for child in self.value] if isinstance(self.value, list) else self.value


def _read(path: Path) -> _Node:
    try:
        loader = yaml.SafeLoader(path.read_text("utf-8"))
        root = loader.get_single_node()
        return _Node(None, path, 1) if root is None else _located(loader, root, path, root.start_mark.line + 1, "")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{path}:{line}: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: {error}") from None
    except RecursionError:
        raise PolicyError(f"{path}: is nested too deeply, or contains itself") from None


def _located(loader: yaml.SafeLoader, node: yaml.Node, path: Path, line: int, field: str) -> _Node:
    """:param line: of the key, where the value has one: that is where a reader looks"""
    if isinstance(node, yaml.SequenceNode):
        items = [_located(loader, n, path, n.start_mark.line + 1, f"{field}[{i}]") for i, n in enumerate(node.value)]
        return _Node(items, path, line)
    if not isinstance(node, yaml.MappingNode):
        try:
            return _Node(loader.construct_object(node), path, line)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:  # the 31st of February, say
            problem = error if isinstance(error, ValueError) else "is not what its tag says"
            raise PolicyError(f"{path}:{line}: {field or 'the top level'}: {problem}") from None
    children: dict[str, _Node] = {}
    for key_node, child in node.value:
        at = key_node.start_mark.line + 1
        if key_node.tag != "tag:yaml.org,2002:str":
            raise PolicyError(f"{path}:{at}: {field or 'the top level'}: a key must be a plain word")
        key = str(key_node.value)
        name = f"{field}.{key}".removeprefix(".")
        if key in children:
            raise PolicyError(f"{path}:{at}: {name}: given for the second time, first in line {children[key].line}")
        children[key] = _located(loader, child, path, at, name)
    return _Node(children, path, line)


def _overlay(below: _Node, above: _Node) -> _Node:
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    merged = dict(below.value)
    for key, node in above.value.items():
        merged[key] = _overlay(merged[key], node) if key in merged else node
    return _Node(merged, above.file, above.line)


def _where(root: _Node, place: Sequence[str | int]) -> str:
    """``file:line: field: `` of a problem; where something is missing, of its nearest ancestor."""
    node, field = root, ""
    found = True
    for step in place:
        if step == "[key]":  # pydantic's word for a problem with the key itself
            continue
        if _is_way(node, step):  # pydantic's word for which of several shapes it took it for
            continue
        field += f"[{step}]" if isinstance(step, int) else f".{step}"
        children = node.value
        found = found and (
            step in children if isinstance(children, dict) else isinstance(step, int) and isinstance(children, list)
        )
        if found:
            node = children[step]
    return f"{node.file}:{node.line}: {field.removeprefix('.') or 'the policy'}: "


def _is_way(node: _Node, step: str | int) -> bool:
    if not isinstance(node.value, dict) or step in node.value or "way" not in node.value:
        return False
    return bool(node.value["way"].value == step)


def _words(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        moved = MOVED.get(tuple(error["loc"]))
        return f"is now {moved}" if moved else "there is no such field"
    if error["type"] == "union_tag_invalid":
        return f"{error['ctx']['tag']} does not lead to this rung: {error['ctx']['expected_tags']} do"
    if error["type"] == "union_tag_not_found":
        return "does not say which way to evidence it is (way: …)"
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "json_invalid":
        return "holds a character that no text can hold"
    given = error["input"]
    shown = "" if isinstance(given, dict | list) else f", not {given!r}"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace("an object", "a mapping")
    return f"{message}{shown}" if error["type"] != "value_error" else message
