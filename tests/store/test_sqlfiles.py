"""SQL in files: parts are filled in or missed, and what is installed finds what it uses."""

from pathlib import Path

import pytest

from meshobs import sqlfiles
from meshobs.store import Store


def test_parts_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is not given is an error; braces that name none stay."""
    monkeypatch.setattr(sqlfiles, "read", lambda _name: "select {column} from {table} where x ~ 'a{1,3}'")

    assert sqlfiles.fill("x", {"column": "y", "table": "z"}) == "select y from z where x ~ 'a{1,3}'"
    with pytest.raises(KeyError, match="table"):
        sqlfiles.fill("x", {"column": "y"})


def test_each_file_is_installed_after_those_that_it_uses() -> None:
    """No file is forgotten, and users come after what they use, whatever their names."""
    order = sqlfiles.list_installed()

    assert sorted(order) == sorted(name for folder in sqlfiles.INSTALLED for name in sqlfiles.names(folder))
    for user, used in (("connections", "pairing"), ("attempts", "attempts/refused"), ("events", "packets")):
        assert order.index(f"queries/model/{user}.sql") > order.index(f"queries/model/{used}.sql")


def test_views_and_macros_can_be_used_in_any_shell(db: Path) -> None:
    """Whatever a fresh database holds as a view answers, with no row and no error."""
    with Store.open(db, write=True) as store:
        views = [name for (name,) in store.rows("select view_name from duckdb_views() where not internal")]
        rows = {name: store.rows(f"from {name}") for name in views}

    assert {"connections", "frontends", "status_nodes", "status_relays", "status_runs", "status_summary"} <= rows.keys()
    assert [name for name in rows if rows[name]] == ["causes", "status_summary"]
