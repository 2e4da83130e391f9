"""Domain names as the DNS spells them: the one place in which Unicode becomes A-labels.

The gate and the policy need it as much as extraction does. It is in this room because extraction comes first: no room
imports from a later one.

The rules are those by which a browser decides which host it asks, UTS 46 (https://www.unicode.org/reports/tr46/) with
the options of https://url.spec.whatwg.org/#concept-domain-to-ascii: non-transitional, so that ``faß.de`` is
``xn--fa-hia.de`` and no longer ``fass.de``, and joiners and the direction of writing are checked. Python's ``idna``
codec implements IDNA2003, which gives the name of another host.

**Names that IDNA2008 refuses.** IDNA2008 knows letters and digits only. UTS 46 also lets symbols through, browsers
resolve such names, and some registries sell them: ``☕.example`` keeps its A-label ``xn--53h.example``. What
browsers refuse is refused here: a character that UTS 46 disallows, a label that begins with a combining mark, a joiner
where no script needs one, a label that mixes directions of writing, an empty label, and one of more than 63
characters.
"""

from __future__ import annotations

import idna

LONGEST_LABEL = 63
_PREFIX = "xn--"
#: Zero width non-joiner and joiner.
JOINERS = ("\u200c", "\u200d")


def ascii_name(name: str) -> str | None:
    """
    A name in lower case with A-labels, without a dot at its end; None for one that no browser would look up.

    What is ASCII already is not checked, and neither are A-labels. Give the name as it was written: ``lower()`` makes a
    final sigma of the last letter of ``ΒΟΛΟΣ``, which names another host.
    """
    if name.isascii():
        return name.lower().removesuffix(".")
    try:
        labels = idna.uts46_remap(name, std3_rules=False).removesuffix(".").split(".")
        return ".".join([label if label.isascii() and label else _a_label(label) for label in labels])
    except ValueError:  # also UnicodeError, of which IDNAError is one
        return None


def _a_label(label: str) -> str:
    """:raises ValueError: it is no label"""
    # Each character takes at least one of the A-label's: what is too long anyway is not encoded, which takes long.
    if not 0 < len(label) <= LONGEST_LABEL - len(_PREFIX):
        raise ValueError(f"a label of {len(label)} characters")
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    for place, character in enumerate(label):
        if character in JOINERS and not idna.valid_contextj(label, place):
            raise ValueError("a joiner where no script needs one")
    encoded = _PREFIX + label.encode("punycode").decode()
    if len(encoded) > LONGEST_LABEL:
        raise ValueError(f"a label of {len(encoded)} characters")
    return encoded
