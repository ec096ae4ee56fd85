"""What a library's message names -> the flags that mean it here.

The library names settings as its functions and the configuration do, in backticks: `tls_server_name`.
"""

import re

from meshobs.text import printable

# Settings whose flag is not their own name.
_OTHER = {"relays": "--relay", "contexts": "--context", "whole": "--all"}
# Those whose flag is.
_ALIKE = (
    "since", "until", "last", "duration", "kubeconfig", "kube_namespace", "allowlist", "denylist",
    "namespace", "pod", "service", "ip", "port", "verdict", "cluster", "strict",
    "tls", "tls_ca_cert_files", "tls_client_cert_file", "tls_client_key_file", "tls_server_name", "tls_allow_insecure",
    "driver", "engine", "node_image", "chart_directory", "set", "force", "cleanup", "relay_binary", "accelerated",
    "variant", "max_unproved", "limit",
)  # fmt: skip
_FLAGS = {**_OTHER, **{name: f"--{name.replace('_', '-')}" for name in _ALIKE}}
# What a message ends with -> what to add: a database's file is an argument there and a flag here.
_ENDS = (
    (re.compile(r"(choose another file|name a file)$"), " with --db"),
    (re.compile(r"is opened read only$"), ": to change it use `meshobs shell --write`"),
)


def with_flags(text: str) -> str:
    """Return a message of the library, safe to show, with the flags of the command line in it."""
    named = re.sub(r"`(\w+)`", lambda found: _FLAGS.get(found[1], found[0]), text)
    more = [addition for end, addition in _ENDS if end.search(named)]
    return printable("".join([named, *more]))
