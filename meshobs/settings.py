"""Settings, made once by the command line and passed down: flags before environment before file before defaults."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from meshobs.errors import InputError, MeshobsError
from meshobs.retention import Keep, Retention

FILE = "meshobs.toml"
# Keys of a table [clusters.NAME]; all optional, but relay or context must be there.
CLUSTER_KEYS: Mapping[str, type] = {
    "relay": str,
    "context": str,
    "kube_namespace": str,
    "tls": bool,
    "tls_ca_cert_files": list,
    "tls_client_cert_file": str,
    "tls_client_key_file": str,
    "tls_server_name": str,
    "tls_allow_insecure": bool,
}


@dataclass(frozen=True)
class Settings:
    """What a configuration file may say.

    Attributes:
        db: the database file; relative to where the command runs.
        cluster: the cluster of nodes and objects that name none themselves.
        max_unproved: share of lost or one-sided events above which a report says insufficient, 0 to 1.
        keep: which flows `collect` stores: "flows" for all, or "events" for those that decide; others are counted.
        retention: how long a running collection keeps flows, events and connections, and `meshobs prune` where it is
            told nothing else: {flows = "2d", events = "30d", connections = "365d"}; what is not named is kept.
        clusters: what a bare `meshobs collect` reads, a table for each cluster.
    """

    db: str = "meshobs.duckdb"
    cluster: str = ""
    max_unproved: float = 0.01
    keep: str = "flows"
    retention: Mapping[str, str] = field(default_factory=dict)
    clusters: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def load(path: Path | None) -> Settings:
    """Read a configuration file.

    Args:
        path: the file, None for none.

    Raises:
        MeshobsError: it cannot be read or has mistakes; all of them are named.
    """
    if path is None:
        return Settings()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MeshobsError(f"cannot read the configuration {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise MeshobsError(f"{path} is not valid TOML: {error}") from error
    known = {field.name: field.type for field in fields(Settings)}
    mistakes = [f"unknown key {key}" for key in content if key not in known]
    values: dict[str, object] = {}
    for key, value in content.items():
        if key in known and (mistake := _mistake(key, value)):
            mistakes.append(mistake)
        elif key in known:
            values[key] = value
    if mistakes:
        raise MeshobsError(f"{path}: {'; '.join(mistakes)} (known keys: {', '.join(known)})")
    return Settings(**values)  # type: ignore[arg-type]  # checked one by one above


def find() -> Path | None:
    """Return ./meshobs.toml, else the user's, else None."""
    here = Path(FILE)
    if here.is_file():
        return here
    from platformdirs import user_config_path  # noqa: PLC0415 - only where there is no ./meshobs.toml

    user = user_config_path("meshobs") / FILE
    return user if user.is_file() else None


def _mistake(key: str, value: object) -> str:
    if key == "max_unproved":
        good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
        return "" if good else f"max_unproved must be a number from 0 to 1, not {value!r}"
    if key == "clusters":
        return mistakes_of_clusters(value)
    if key == "keep":
        known = [one.value for one in Keep]
        return "" if value in known else f"keep must be one of {', '.join(known)}, not {value!r}"
    if key == "retention":
        return _mistake_of_retention(value)
    return "" if isinstance(value, str) else f"{key} must be a text, not {value!r}"


def _mistake_of_retention(value: object) -> str:
    if not isinstance(value, Mapping):
        return "retention must be a table: [retention]"
    try:
        Retention.of(value).check_for_collecting()
    except InputError as error:
        return f"[retention] {error}"
    return ""


def mistakes_of_clusters(value: object) -> str:
    """Return what is wrong with a table of clusters, empty for nothing."""
    if not isinstance(value, Mapping) or not all(isinstance(one, Mapping) for one in value.values()):
        return "clusters must be tables: [clusters.west]"
    found = []
    for name, keys in value.items():
        unknown = [key for key in keys if key not in CLUSTER_KEYS]
        found += [f"[clusters.{name}] has an unknown key {key} (known: {', '.join(CLUSTER_KEYS)})" for key in unknown]
        wrong = [key for key, one in keys.items() if key in CLUSTER_KEYS and not isinstance(one, CLUSTER_KEYS[key])]
        found += [f"[clusters.{name}] {key} must be of type {CLUSTER_KEYS[key].__name__}" for key in wrong]
        if not keys.keys() & {"relay", "context"}:
            found.append(f"[clusters.{name}] needs relay = 'HOST:PORT' or context = 'NAME'")
    return "; ".join(found)
