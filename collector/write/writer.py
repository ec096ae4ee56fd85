"""Batches of messages -> rows. All per-flow work is SQL (collector/write/sql/ingest) or Arrow.

A batch in which every flow is certainly new is appended by one prepared statement; any other gets a closer look, which
costs several times as much: repetitions are numbered and what is stored already is left out. A transaction holds as
many rows as a row group of the file, which DuckDB then writes once, without a detour over its log.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Self, TypeAlias

import pyarrow as pa

from meshobs import sqlfiles
from meshobs.collector.decode import arrow, enums, jsonlines
from meshobs.collector.decode.digest import Digest, IdentityKey, losses_unasked, pc
from meshobs.collector.node_name import full_name
from meshobs.collector.recordings.framing import BATCH_ITEMS, Batch
from meshobs.collector.span import Span
from meshobs.collector.write import settle
from meshobs.collector.write.counts import PROBLEMS_KEPT, Counts
from meshobs.collector.write.ledger import Ledger, LedgerEntry
from meshobs.retention import Keep
from meshobs.store import ROW_GROUP, Store, integer
from meshobs.times import rfc3339

_JSON_FIELDS = ("flow", "node_status", "lost_events")
_KIND = "case " + " ".join(f"when {name} is not null then '{name}'" for name in _JSON_FIELDS) + " else 'other' end"
# The files that read one form of input, protobuf messages or JSON lines: name -> SQL is a _Form.
_OF_FORM = (
    "project", "stage", "stage_lost_events", "stage_node_status", "kinds", "unreadable",
    "insert_identities", "insert_versions", "messages_from_json",
)  # fmt: skip
# What is written of flows that are not stored.
_LEFT_OUT = ("left_out_flows", "left_out_counts")
_Form: TypeAlias = Mapping[str, str]
# The same event from elsewhere may have a time that is rounded to seconds.
_ROUNDED_NS = 10**9
_TEXT_LINES = pa.schema([("position", pa.int64()), ("text", pa.string())])


@dataclass
class _BatchResult:
    """What became of one batch."""

    counts: Counts = field(default_factory=Counts)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def undecodable(self, times: int, problems: Iterable[tuple[int, str]]) -> None:
        """Count messages that cannot be stored, and keep the first ones in words."""
        self.counts.received += times
        self.counts.undecodable += times
        self.problems += problems


@dataclass
class _Transaction:
    """What is not committed yet."""

    rows: int = 0
    stored: int = 0
    span: Span | None = None
    batches: dict[str, int] = field(default_factory=dict)
    saved: dict[str, tuple[Counts, Span | None]] = field(default_factory=dict)


class FlowWriter:
    """Stores the messages of one run.

    Args:
        store: opened for writing; no other Writer may use it at the same time.
        ledger: the account of the run; saved with every commit.
        fallback_cluster: cluster of nodes whose names carry none.
        before_commit: called inside each transaction right before its end.
    """

    def __init__(
        self, store: Store, ledger: Ledger, fallback_cluster: str = "", before_commit: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._before_commit = before_commit
        self._fallback_cluster = fallback_cluster
        self._open: _Transaction | None = None
        # Older than those that are kept, and so not taken in.
        self._too_old = 0
        self._keeps_all = ledger.keeps is Keep.FLOWS
        # How many messages to write at once. Of most only little is decoded: more of them need no more memory, and each
        # statement takes ten milliseconds, however few rows it is for.
        self.batch_items = BATCH_ITEMS if self._keeps_all else 4 * BATCH_ITEMS
        self.settled = settle.SettledUntil()
        # When the last transaction ended, by the monotonic clock; rows, also staged ones, since the last checkpoint.
        self.committed = time.monotonic()
        self._unwritten = 0
        self._reader = ""
        self._identities: set[IdentityKey] = set()
        self._versions: set[tuple[str, str]] = set()
        self._messages = _form("incoming", "projected_messages", _KIND)
        self._lines = _form("parsed_lines", "projected_lines", "kind")
        # Until where each node's flows are stored: what is later is new.
        self._known: dict[str, int] = {}
        # Some times are rounded, or fields were left out: what is stored may come again, and tell more.
        self._imperfect = False

    def prepare(self) -> Self:
        """Make what a run works with in the database; before anything is written."""
        self._make_tables(self._fallback_cluster)
        self._known = {str(node): integer(until) for node, until in self._store.rows(_sql("known_until"))}
        self._imperfect = bool(self._store.value(_sql("imperfect")))
        self.settled.keep_from(integer(self._store.value(sqlfiles.FLOWS_SINCE)))
        settle.unsettle(self._store)
        self.settled.until = settle.find_end(self._store)
        # Last: after any change of the catalog DuckDB plans them anew each time, which takes longer than the rows.
        self._store.run(f"prepare append_flows as {_appending('flows', 'projected_messages')}")
        if not self._keeps_all:
            deciding = _sql("deciding")
            self._store.run(f"prepare find_deciding as select position from projected_seen where {deciding}")  # noqa: S608 - ours
            for name in _LEFT_OUT:
                self._store.run(f"prepare append_{name} as {_appending(name, 'projected_seen')}")
        return self

    def left_out(self) -> str:
        """Return in words what was not taken in because flows of its time are pruned; empty for nothing."""
        if not self._too_old:
            return ""
        since = rfc3339(self.settled.kept_since)
        return f"{self._too_old} flows are from before {since} and left out: flows of that time are pruned"

    def nodes_known(self) -> frozenset[str]:
        """Return the nodes of which flows are stored, as `cluster/node`."""
        return frozenset(self._known)

    def start_source(self) -> None:
        """Start a source: contents without an uuid are counted anew."""
        self._store.run("delete from fingerprints")

    def write_messages(
        self, batch: Batch, entry: LedgerEntry, covers: Callable[[str], bool] = lambda _: True
    ) -> Digest:
        """Store protobuf messages, count them in `entry`, and return what they told.

        Args:
            batch: of one source.
            entry: its account.
            covers: whether flows of a node, as `cluster/node`, were asked for; what others lose in their rings is none.
        """
        if not self._keeps_all and (digest := self._append_deciding(batch, entry)):
            return digest
        decoded = arrow.decode(batch.items)
        broken = batch.broken + [(batch.numbers[index], reason) for index, reason in decoded.broken]
        numbers = pa.array([batch.numbers[position] for position in decoded.positions], pa.int64())
        kept, unasked = decoded.batch, losses_unasked(decoded.batch, covers)
        if unasked is not None:
            kept, numbers = (one.filter(pc.invert(unasked)) for one in (kept, numbers))
        digest = Digest(kept)
        table = _numbered(kept, numbers)
        is_flow = pc.is_valid(kept.column("flow"))
        with self._piece(entry, f"{entry.name} message") as piece:
            piece.undecodable(len(broken), broken)
            left_out = len(decoded.batch) - len(kept)
            piece.counts.received += left_out
            piece.counts.filtered += left_out
            if digest.others is not None:
                self._incoming.data = table.filter(pc.invert(is_flow))
                self._write_others(self._messages, entry, piece)
                table = table.filter(is_flow)
            self._incoming.data = table
            if not digest.flows:
                pass
            elif self._keeps_all and digest.regular and self._all_new(digest.spans):
                self._append(digest, entry, piece.counts, digest.flows)
            else:
                self._look_closer(self._messages, entry, piece)
            self._note(digest, lambda: table)
        return digest

    def write_lines(self, batch: Batch, entry: LedgerEntry) -> None:
        """Store JSON lines and count them in `entry`."""
        texts, broken = _decode(batch)
        self._incoming_lines.data = pa.table(
            {"position": [number for number, _ in texts], "text": [text for _, text in texts]}, _TEXT_LINES
        )
        with self._piece(entry, f"{entry.name} line") as piece:
            broken += batch.broken
            piece.undecodable(len(broken), broken)
            piece.counts.foreign += batch.foreign
            self._store.run("delete from parsed_lines")
            self._store.run(f"insert into parsed_lines {self._lines['messages_from_json']}")
            if self._store.value("select bool_or(bare_name(flow, node_name) <> '') from parsed_lines"):
                self._store.run(_sql("learn_clusters"))
                self._store.run(_sql("name_clusters"))
            self._write_others(self._lines, entry, piece)
            self._look_closer(self._lines, entry, piece)
            self._store.run(self._lines["insert_identities"])
            self._store.run(self._lines["insert_versions"])

    def commit(self) -> None:
        """Make everything written so far lasting."""
        if self._open is None:
            return
        try:
            self._before_commit()
            self._ledger.save()
            with self.settled.lock:
                self._note_late(self._open.span)
                self._store.run("commit")
        except BaseException:
            self.rollback()
            raise
        # A checkpoint for flows that are only counted would write the same half-full row groups again and again.
        self._unwritten += self._open.stored
        self._open = None
        self.committed = time.monotonic()
        if self._unwritten >= ROW_GROUP:
            self._store.checkpoint()
            self._unwritten = 0

    def _note_late(self, span: Span | None) -> None:
        if span and self.settled.is_late(span.first):
            sql = "insert into late_flows select make_timestamp_ns(?), make_timestamp_ns(?)"
            self._store.run(sql, [span.first, span.last])

    def rollback(self) -> None:
        """Forget what was written since the last commit; the counters say so, too."""
        if self._open is None:
            return
        self._store.rollback()
        for entry in self._ledger.entries:
            if entry.name in self._open.saved:
                entry.counts, entry.span = self._open.saved[entry.name]
        self._open = None

    def _make_tables(self, fallback_cluster: str) -> None:
        store = self._store
        messages = arrow.schema().insert(0, pa.field("position", pa.int64()))
        self._incoming = store.feed("incoming", messages.empty_table())
        self._incoming_lines = store.feed("incoming_lines", _TEXT_LINES.empty_table())
        store.run(_sql("macros", {"fallback_cluster": f"'{sqlfiles.quote(fallback_cluster)}'"}))
        store.run(enums.macros())
        store.run("set variable line_structure = ?", [jsonlines.structure()])
        store.run("set variable flow_structure = ?", [jsonlines.structure("flow")])
        store.run(f"create or replace temp table parsed_lines as {self._lines['messages_from_json']} limit 0")
        store.run(self._messages["project"])
        store.run(self._lines["project"])
        store.run(_sql("tables"))
        if not self._keeps_all:
            self._seen = store.feed("incoming_seen", _numbered(arrow.decode_seen([])))
            store.run(_sql("project_seen", {"seen": _sql("seen_columns")}))

    @contextmanager
    def _piece(self, entry: LedgerEntry, unit: str) -> Iterator[_BatchResult]:
        """Write one batch inside the running transaction: all of it, or nothing since the last commit."""
        if self._open is None:
            self._store.run("begin transaction")
            self._open = _Transaction()
        self._open.saved.setdefault(entry.name, (entry.counts.copy(), entry.span))
        if entry.reader != self._reader:
            self._reader = entry.reader
            self._store.run("set variable reader = ?", [entry.reader])
        piece = _BatchResult()
        try:
            yield piece
        except BaseException:
            self.rollback()
            raise
        words = (f"{unit} {position}: {reason}" for position, reason in sorted(piece.problems))
        piece.counts.problems = list(islice(words, PROBLEMS_KEPT))
        entry.counts.add(piece.counts)
        if self._open.rows >= ROW_GROUP:
            self.commit()

    def _append_deciding(self, batch: Batch, entry: LedgerEntry) -> Digest | None:
        """Append what decides of a batch of new flows, and count the others; None where it needs a closer look.

        Most flows are decoded as far as they are counted, and only those that decide as a whole.
        """
        seen = None if batch.broken else arrow.decode_seen(batch.items)
        if seen is None:
            return None
        digest = Digest(seen)
        if digest.others is not None or not digest.flows or not digest.regular or not self._all_new(digest.spans):
            return None
        with self._piece(entry, f"{entry.name} message") as piece:
            self._seen.data = table = _numbered(seen)
            deciding = self._store.table("execute find_deciding").column("position")
            decoded = arrow.decode([batch.items[position] for position in deciding.to_pylist()])
            if decoded.broken:  # in what is not read at first
                return None
            self._seen.data = table.filter(pc.invert(pc.is_in(table.column("position"), value_set=deciding)))
            for name in _LEFT_OUT:
                self._store.run(f"execute append_{name}({self._batch(entry)}::uinteger)")
            self._incoming.data = _numbered(decoded.batch)
            self._append(digest, entry, piece.counts, len(deciding))
            self._note(digest, lambda: _numbered(arrow.decode(batch.items).batch))
        return digest

    def _append(self, digest: Digest, entry: LedgerEntry, counts: Counts, stored: int) -> None:
        self._store.run(f"execute append_flows({self._batch(entry)}::uinteger)")
        counts.received += digest.flows
        counts.stored += stored
        counts.filtered += digest.flows - stored
        first = min(first for first, _ in digest.spans.values())
        last = max(last for _, last in digest.spans.values())
        self._count_rows(entry, digest.flows, stored, Span(first, last))
        for node, (_, last) in digest.spans.items():
            self._known[self._stored_name(node)] = last

    def _look_closer(self, form: _Form, entry: LedgerEntry, piece: _BatchResult) -> None:
        self._store.run(form["stage"])
        if self.settled.kept_since:
            pruned = integer(self._store.value(_sql("leave_out_pruned"), [self.settled.kept_since]))
            piece.counts.received += pruned
            piece.counts.filtered += pruned
            self._too_old += pruned
        first, last, good, unnamed, broken, imperfect = map(integer, self._store.rows(_sql("staged"))[0])
        self._imperfect |= bool(imperfect)
        if imperfect:
            self._store.run(_sql("merge_copies"))
        if broken:
            problems = self._store.rows(_sql("problems"), {"kept": PROBLEMS_KEPT})
            piece.undecodable(broken, ((integer(position), str(problem)) for position, problem in problems))
        if not good:
            return
        if unnamed:
            self._store.run(_sql("fingerprint"))
        self._unwritten += good
        batch = self._batch(entry)
        window = {"first": first, "last": last, "batch": batch}
        self._store.run(_sql("insert_replays"), {**window, "collection": self._ledger.number})
        around = {"first": first - _ROUNDED_NS, "last": last + _ROUNDED_NS}
        for node, until in self._store.rows(_sql("staged_until")):
            self._known[str(node)] = max(integer(until), self._known.get(str(node), integer(until)))
        if self._keeps_all:
            new = stored = integer(self._store.value(_sql("insert_flows"), {**around, "batch": batch}))
            if self._imperfect and stored < good:
                self._store.run(_sql("fill_in"), around)
        else:
            self._store.run(_sql("leave_out_known"), around)
            new = integer(self._store.value("select count(*) from staged"))
            deciding = _sql("deciding")
            stored = integer(self._store.value(_appending("flows", "staged", deciding, ", copy"), [batch]))
            for name in _LEFT_OUT:
                self._store.run(_appending(name, "staged", f"not ({deciding})"), [batch])
        piece.counts.received += good
        piece.counts.stored += stored
        piece.counts.filtered += new - stored
        piece.counts.duplicate += good - new
        self._count_rows(entry, new, stored, Span(first, last))

    def _write_others(self, form: _Form, entry: LedgerEntry, piece: _BatchResult) -> None:
        """Store and count what is no flow."""
        for table, times in self._store.rows(form["kinds"]):
            received, counts = integer(times), piece.counts
            if table == "foreign":
                counts.foreign += received
                continue
            if table == "broken":
                problems = self._store.rows(form["unreadable"], {"kept": PROBLEMS_KEPT})
                piece.undecodable(received, ((integer(position), "not a Hubble message") for (position,) in problems))
                continue
            counts.received += received
            if table == "other":
                counts.filtered += received
            else:
                self._store.run(form[f"stage_{table}"])
                # One message may name several nodes, each a row.
                stored = integer(self._store.value(f"select count(distinct position) from staged_{table}"))  # noqa: S608 - ours
                self._store.run(_sql(f"insert_{table}"), {"batch": self._batch(entry)})
                counts.stored += stored
                counts.duplicate += received - stored

    def _note(self, digest: Digest, decode: Callable[[], pa.Table]) -> None:
        """Keep identities and versions that were not seen before."""
        fresh = digest.identities - self._identities if digest.flows else frozenset()
        if fresh:
            table = decode()
            numbers = pa.array([seen.identity for seen in fresh], pa.uint32())
            flow = table.column("flow")
            sides = (pc.is_in(pc.struct_field(flow, [side, "identity"]), numbers) for side in ("source", "destination"))
            self._incoming.data = table.filter(pc.or_(*sides))
            self._store.run(self._messages["insert_identities"])
            self._identities |= fresh
        if digest.flows and digest.versions - self._versions:
            self._incoming.data = decode()
            self._store.run(self._messages["insert_versions"])
            self._versions |= digest.versions

    def _count_rows(self, entry: LedgerEntry, rows: int, stored: int, span: Span) -> None:
        if self._open is None:
            raise RuntimeError("rows outside a transaction")
        self._open.rows += rows
        self._open.stored += stored
        if rows or self._imperfect:
            self._open.span = Span.around([self._open.span, span])
        entry.span = Span.around([entry.span, span])

    def _batch(self, entry: LedgerEntry) -> int:
        """Return the number under which rows of this source are stored in this transaction."""
        if self._open is None:
            raise RuntimeError("a batch outside a transaction")
        if entry.name not in self._open.batches:
            number = self._ledger.next_batch()
            row = {"batch": number, "collection": self._ledger.number, "origin": entry.name, "reader": entry.reader}
            self._store.run(_sql("new_batch"), row)
            self._open.batches[entry.name] = number
        return self._open.batches[entry.name]

    def _all_new(self, spans: dict[str, tuple[int, int]]) -> bool:
        """Tell whether every flow is later than all that is stored of its node: then it cannot be there."""
        known, slack = self._known, _ROUNDED_NS if self._imperfect else 0
        never = min((first for first, _ in spans.values()), default=0) - slack - 1
        return all(
            first >= self.settled.kept_since and first > known.get(self._stored_name(node), never) + slack
            for node, (first, _) in spans.items()
        )

    def _stored_name(self, node_name: str) -> str:
        return full_name(node_name, self._fallback_cluster)


def _form(messages: str, projected: str, kind: str) -> _Form:
    fields = {name: jsonlines.expression(name, name) for name in _JSON_FIELDS}
    parts = {"messages": messages, "projected": projected, "kind": kind, "seen": _sql("seen_columns"), **fields}
    return {name: _sql(name, parts) for name in _OF_FORM}


def _appending(name: str, source: str, wanted: str = "true", more: str = "") -> str:
    return _sql(f"append_{name}", {"source": source, "wanted": wanted, "more": more})


def _numbered(batch: pa.RecordBatch, numbers: pa.Array | None = None) -> pa.Table:
    """Return the rows with these numbers as their positions, else counted."""
    numbers = pa.array(range(len(batch)), pa.int64()) if numbers is None else numbers
    return pa.Table.from_batches([batch]).add_column(0, "position", numbers)


def _sql(name: str, parts: Mapping[str, str] = MappingProxyType({})) -> str:
    return sqlfiles.fill(f"collector/write/sql/ingest/{name}.sql", parts)


def _decode(batch: Batch) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Split lines into texts and those that are no UTF-8."""
    texts: list[tuple[int, str]] = []
    broken: list[tuple[int, str]] = []
    for number, item in zip(batch.numbers, batch.items, strict=True):
        try:
            texts.append((number, item.decode()))
        except UnicodeDecodeError:
            broken.append((number, "not a Hubble message"))
    return texts, broken
