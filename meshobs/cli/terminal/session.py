"""What every command shares: the settings and the way to the database."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshobs import settings
from meshobs.errors import MeshobsError

if TYPE_CHECKING:
    from meshobs.store import OpenDatabase


class Session:
    """One call of the command line.

    Args:
        db: the database file as given by flag or environment, None for the configured one.
        config: the configuration file as given, None to look for one.
    """

    def __init__(self, db: Path | None, config: Path | None) -> None:
        self._db = db
        self._config = config

    @cached_property
    def settings(self) -> settings.Settings:
        """Return the settings; read once, when a command first needs them."""
        if self._config and not self._config.is_file():
            raise MeshobsError(f"the configuration {self._config} does not exist")
        return settings.load(self._config or settings.find())

    @property
    def db(self) -> Path:
        """Return the database file."""
        return self._db or Path(self.settings.db)

    def read(self) -> "OpenDatabase":
        """Open the database for reading, also while a collection writes it."""
        from meshobs.database import open_store  # noqa: PLC0415 - DuckDB costs more than the rest

        return open_store(self.db)


pass_session = click.make_pass_decorator(Session)
