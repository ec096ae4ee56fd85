"""Batches of messages -> rows, one transaction each. All per-flow work is SQL (queries/ingest)."""

import pyarrow as pa

from meshobs import sqlfiles
from meshobs.collector import jsonlines, wanted
from meshobs.collector.counts import PROBLEMS_KEPT, Counts
from meshobs.collector.decode import decode
from meshobs.collector.ledger import Entry, Ledger
from meshobs.collector.messages import Batch
from meshobs.collector.topology import Span
from meshobs.store import Store, Value

_JSON_FIELDS = ("flow", "node_status", "lost_events")


class Writer:
    """Stores the messages of one run.

    Args:
        store: opened for writing; no other Writer may use it at the same time.
        ledger: the account of the run; saved with every batch.
        fallback_cluster: cluster of nodes whose names carry none.
    """

    def __init__(self, store: Store, ledger: Ledger, fallback_cluster: str = "") -> None:
        self._store = store
        self._ledger = ledger
        self._sql = {name.removesuffix(".sql"): sqlfiles.read(name) for name in sqlfiles.names("ingest")}
        fields = {field: jsonlines.expression(field, field) for field in _JSON_FIELDS}
        self._from_json = self._sql["ingest/messages_from_json"].format(**fields)
        store.run(self._sql["ingest/macros"])
        store.run("set variable fallback_cluster = ?", [fallback_cluster])
        store.run("set variable line_structure = ?", [jsonlines.structure()])
        store.run("set variable flow_structure = ?", [jsonlines.structure("flow")])
        for enum in wanted.ENUMS:
            names = ", ".join("null" if name is None else f"'{name}'" for name in wanted.enum_names(enum))
            store.run(f"set variable enum_{enum.rsplit('.', 1)[-1]} = [{names}]")

    def begin(self, entry: Entry) -> None:
        """Start a source: contents without an uuid are counted anew."""
        self._store.run("create or replace temp table fingerprints (content ubigint primary key, times ubigint)")
        self._store.run("set variable reader = ?", [entry.reader])

    def write_messages(self, batch: Batch, entry: Entry) -> None:
        """Store protobuf messages and count them in `entry`."""
        decoded = decode(batch.items)
        positions = pa.array([batch.numbers[position] for position in decoded.positions], pa.int64())
        columns = dict(zip(decoded.batch.schema.names, decoded.batch.columns, strict=True))
        broken = batch.broken + [(batch.numbers[index], reason) for index, reason in decoded.broken]
        with self._store.relation("incoming", pa.table({"position": positions, **columns})):
            self._store.run("create or replace temp macro enum_text(enum, value) as name_of_number(enum, value)")
            self._store.run(self._sql["ingest/messages_from_protobuf"])
            self._write(entry, f"{entry.name} message", broken)

    def write_lines(self, batch: Batch, entry: Entry) -> None:
        """Store JSON lines and count them in `entry`."""
        texts, broken = _decoded(batch)
        positions = pa.array([number for number, _ in texts], pa.int64())
        table = pa.table({"position": positions, "text": pa.array([text for _, text in texts], pa.string())})
        with self._store.relation("incoming", table):
            self._store.run("create or replace temp macro enum_text(enum, value) as name_of_text(enum, value)")
            self._store.run(self._from_json)
            self._write(entry, f"{entry.name} line", batch.broken + broken)

    def _write(self, entry: Entry, unit: str, broken: list[tuple[int, str]]) -> None:
        counts = Counts()
        with self._store.transaction():
            batch = self._new_batch(entry)
            kinds = {
                str(kind): _int(times)
                for kind, times in self._store.rows("select kind, count(*) from messages group by kind")
            }
            if kinds.get("flow"):
                entry.span = Span.around([entry.span, self._write_flows(batch, counts)])
            for table in ("lost_events", "node_status"):
                if kinds.get(table):
                    self._write_few(table, kinds[table], batch, counts)
            counts.filtered = kinds.get("other", 0)
            counts.undecodable += kinds.get("broken", 0)
            counts.received = sum(kinds.values())
            if counts.undecodable:
                problems = self._store.rows(self._sql["ingest/problems"], {"kept": PROBLEMS_KEPT})
                counts.problems = [f"{unit} {position}: {problem}" for position, problem in problems]
            for position, reason in broken:
                counts.broken(f"{unit} {position}", reason)
            entry.counts.add(counts)
            self._ledger.save()

    def _new_batch(self, entry: Entry) -> int:
        parameters = {"collection": self._ledger.number, "origin": entry.name, "reader": entry.reader}
        return _int(self._store.value(self._sql["ingest/new_batch"], parameters))

    def _write_flows(self, batch: int, counts: Counts) -> Span | None:
        self._store.run(self._sql["ingest/project"])
        self._store.run(self._sql["ingest/stage"])
        first, last, good, unnamed, broken = self._store.rows(self._sql["ingest/staged"])[0]
        counts.undecodable += _int(broken)
        if not good:
            return None
        if unnamed:
            self._store.run(self._sql["ingest/fingerprint"])
        stored = _int(
            self._store.value(self._sql["ingest/insert_flows"], {"batch": batch, "first": first, "last": last})
        )
        if stored < _int(good):
            window = {"first": first, "last": last, "batch": batch, "collection": self._ledger.number}
            self._store.run(self._sql["ingest/insert_replays"], window)
        self._store.run(self._sql["ingest/insert_identities"])
        self._store.run(self._sql["ingest/insert_versions"])
        counts.stored += stored
        counts.duplicate += _int(good) - stored
        return Span(_int(first), _int(last))

    def _write_few(self, table: str, received: int, batch: int, counts: Counts) -> None:
        self._store.run(self._sql[f"ingest/stage_{table}"])
        # One message may name several nodes, each a row.
        stored = _int(self._store.value(f"select count(distinct position) from staged_{table}"))  # noqa: S608 - our names
        self._store.run(self._sql[f"ingest/insert_{table}"], {"batch": batch})
        counts.stored += stored
        counts.duplicate += received - stored


def _decoded(batch: Batch) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Split lines into texts and those that are no UTF-8."""
    texts: list[tuple[int, str]] = []
    broken: list[tuple[int, str]] = []
    for number, item in zip(batch.numbers, batch.items, strict=True):
        try:
            texts.append((number, item.decode()))
        except UnicodeDecodeError:
            broken.append((number, "not a Hubble message"))
    return texts, broken


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError(f"DuckDB gave {value!r} for a number")
    return value
