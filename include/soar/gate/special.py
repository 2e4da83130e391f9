"""Addresses and names that mean nothing on the Internet, and IPv6 addresses that are IPv4 addresses in disguise."""

from __future__ import annotations

import ipaddress

from include.soar.gate.intervals import Address, Network

#: IANA special-purpose registries (RFC 6890 and successors). Written out, because the tables behind
#: ``ipaddress.is_global`` changed between patch releases of Python, and it calls multicast global.
#: https://www.iana.org/assignments/iana-ipv4-special-registry https://www.iana.org/assignments/iana-ipv6-special-registry
SPECIAL_PURPOSE: dict[str, str] = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "IETF protocol assignments",
    "192.31.196.0/24": "AS112, which answers for private addresses",
    "192.52.193.0/24": "multicast relay anycast",
    "192.88.99.0/24": "6to4 relay anycast",
    "192.168.0.0/16": "private",
    "192.175.48.0/24": "AS112, which answers for private addresses",
    "198.18.0.0/15": "benchmarking",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved and broadcast",
    "::/3": "outside of the Internet's 2000::/3",
    "4000::/2": "outside of the Internet's 2000::/3",
    "8000::/1": "outside of the Internet's 2000::/3",
    "64:ff9b:1::/48": "translation inside one network",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "100::/64": "discard-only",
    "100:0:0:1::/64": "a dummy prefix",
    "2001::/23": "IETF protocol assignments",
    "2620:4f:8000::/48": "AS112, which answers for private addresses",
    "5f00::/16": "segment routing",
    "fc00::/7": "unique local",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}
#: IPv6 that is an IPv4 address in disguise: compatible (deprecated), mapped, NAT64 (RFC 6052). The address inside
#: decides. So it does in 6to4 (2002::/16), whose answers go back to that address. Teredo is special-purpose as a whole
#: (2001::/23). ISATAP is not read: the owner of a /64 can write any IPv4 address there, and would choose one of ours.
DISGUISES = ("::/96", "::ffff:0:0/96", "64:ff9b::/96")
DOCUMENTATION: dict[str, str] = {
    "192.0.2.0/24": "documentation",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "2001:db8::/32": "documentation",
    "3fff::/20": "documentation",
}
#: RFC 6761 and successors: names that mean nothing on the Internet. ``example`` counts as documentation.
SPECIAL_NAMES = ("localhost", "local", "internal", "invalid", "test", "onion", "home.arpa", "in-addr.arpa", "ip6.arpa")
_DISGUISE_BYTES = frozenset(ipaddress.ip_network(text).network_address.packed[:12] for text in DISGUISES)
_6TO4 = b"\x20\x02"


def unwrap(address: Address) -> Address:
    """The IPv4 address inside an IPv6 address that is one in disguise (see ``DISGUISES``); any other as it is."""
    if isinstance(address, ipaddress.IPv6Address) and (inside := embedded_address(address.packed)):
        return ipaddress.IPv4Address(inside)
    return address


def embedded_address(packed: bytes) -> bytes | None:
    """The IPv4 address inside an IPv6 address in disguise, both packed; None if there is none."""
    if packed[:2] == _6TO4:
        return packed[2:6]
    # Unspecified and loopback are addresses of IPv6 itself.
    if packed[:12] in _DISGUISE_BYTES and packed not in (bytes(16), bytes(15) + b"\1"):
        return packed[12:]
    return None


def embedded_network(network: Network) -> Network | None:
    """
    The IPv4 network whose disguises are in an IPv6 network, None if none are.

    A network wider than the disguise holds disguises of every IPv4 address.
    """
    if isinstance(network, ipaddress.IPv4Network):
        return None
    for text, before in (*((text, 96) for text in DISGUISES), ("2002::/16", 16)):
        disguise = ipaddress.IPv6Network(text)
        if network.supernet_of(disguise):
            return ipaddress.ip_network("0.0.0.0/0")
        if network.subnet_of(disguise):
            value = int(network.network_address) >> (128 - before - 32) & 0xFFFFFFFF
            return ipaddress.ip_network((value, min(32, network.prefixlen - before)))
    return None


def networks_of(value: str) -> tuple[Network, ...]:
    """A network, and the IPv4 network that it is in disguise."""
    network = ipaddress.ip_network(value)
    inside = embedded_network(network)
    return (network, inside) if inside else (network,)
