"""How much of what takes long and rarely breaks is run: a part, or with `make test-whole` all."""

import os

WHOLE = bool(os.environ.get("WHOLE"))
