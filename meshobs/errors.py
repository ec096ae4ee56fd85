"""What can go wrong for a user: each error is one line that says what to do, shown by the CLI without a traceback."""


class MeshobsError(Exception):
    """Something the user can fix. The message names what was tried, with what, and what to do next.

    Settings stand in it in backticks, by the name that functions and the configuration have: `tls_server_name`. The
    command line says its flags instead.
    """


class DatabaseError(MeshobsError):
    """The database cannot be opened, read or written."""


class OutdatedError(DatabaseError):
    """The database must be brought up to date before it can be read."""


class InputError(MeshobsError):
    """A file or an argument is not what it should be."""
