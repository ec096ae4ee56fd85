"""What can go wrong for a user: each error is one line that says what to do, shown by the CLI without a traceback."""


class MeshobsError(Exception):
    """Something the user can fix. The message names what was tried, with what, and what to do next."""


class DatabaseError(MeshobsError):
    """The database cannot be opened, read or written."""


class OutdatedError(DatabaseError):
    """The database must be brought up to date before it can be read."""


class InputError(MeshobsError):
    """A file or an argument is not what it should be."""
