"""IPv6 ranges and addresses of a dual-stack mesh, each derived from the IPv4 one so that nobody has to name them. Pure.

An octet of IPv4 becomes a group of IPv6: 10.1.2.0/24 is fd00:a:1:2::/64. Ranges that do not overlap stay apart, and one
that holds another still does.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

# Unique local addresses (RFC 4193), with a global id of zeros: they lead nowhere.
_PREFIX, _PREFIX_BITS = 0xFD00, 16
_OCTETS, _OCTET_BITS, _GROUP_BITS = 4, 8, 16
# What nodes have of a range: Kubernetes takes none larger than 20 bits for Services, and 2^16 pods are enough.
_POOL_BITS = 112
# Of a link.
_LINK_BITS = 64


def range_of(cidr: str) -> str:
    """Return the range that stands for one of IPv4: 10.1.0.0/16 -> fd00:a:1::/48."""
    network = IPv4Network(cidr)
    whole, rest = divmod(network.prefixlen, _OCTET_BITS)
    # Half an octet lies in the lower half of its group.
    bits = _PREFIX_BITS + _GROUP_BITS * whole + (_OCTET_BITS + rest if rest else 0)
    return str(IPv6Network((_base(network), bits)))


def pool_of(cidr: str) -> str:
    """Return the part of such a range that pods of a node, or Services, have: 10.1.2.0/24 -> fd00:a:1:2::/112."""
    return str(IPv6Network((_base(IPv4Network(cidr)), _POOL_BITS)))


def on_link(address: str, network: str) -> str:
    """Return the address on the nodes' network that stands for one of IPv4, with the length of its prefix.

    172.18.0.3 of 172.18.0.0/16 -> fd00:ac:12::3/64.
    """
    host = int(IPv4Address(address)) - int(IPv4Network(network).network_address)
    return f"{IPv6Network(link_of(network))[host]}/{_LINK_BITS}"


def link_of(network: str) -> str:
    """Return what stands in IPv6 for the nodes' network: 172.18.0.0/16 -> fd00:ac:12::/64."""
    return str(IPv6Network((_base(IPv4Network(network)), _LINK_BITS)))


def _base(network: IPv4Network) -> int:
    groups = [_PREFIX, *network.network_address.packed, *[0] * (7 - _OCTETS)]
    return sum(group << _GROUP_BITS * (7 - place) for place, group in enumerate(groups))
