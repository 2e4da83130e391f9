"""What CrowdStrike Falcon is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Choice, Text, Vendor, Words

VENDOR = Vendor(
    "crowdstrike_falcon",
    "CrowdStrike Falcon",
    "CrowdStrikeFalconHook",
    host="https://api.crowdstrike.com",
    login="Client id",
    password="Client secret",  # noqa: S106
    fields=(
        Choice(
            "hash_action",
            "Action for hashes",
            "What is done about a file with such a hash",
            choices=("prevent", "detect"),
            default="prevent",
        ),
        Text(
            "address_action",
            "Action for addresses and domains",
            "Of those to be blocked; default detect, since more (prevent) is refused without Firewall Management",
            default="detect",
            # What does nothing would be told as a response.
            pattern=r"^(?!(?:allow|no_action)$)[a-z_]*$",
        ),
        Choice(
            "severity",
            "Severity",
            "Of the indicators we create",
            choices=("informational", "low", "medium", "high", "critical"),
            default="high",
        ),
        Words(
            "platforms",
            "Platforms",
            "Separated by commas; default windows,mac,linux",
            choices=("windows", "mac", "linux", "ios", "android"),
            default=("windows", "mac", "linux"),
        ),
        Words("host_groups", "Host groups", "Ids separated by commas; empty: all hosts"),
        Text("member_cid", "Member CID", "Only for a parent tenant (MSSP)"),
        *TLS,
    ),
)
