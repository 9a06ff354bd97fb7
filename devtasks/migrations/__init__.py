"""The ledger's schema: numbered Alembic versions, shipped inside the package and applied by `Ledger.open`."""

from sqlalchemy import Connection

from devtasks.errors import LedgerError

HEAD = "0005"


def upgrade(connection: Connection) -> None:
    """Bring the schema to this version inside the caller's transaction.

    Raises LedgerError when the database carries a revision this version does not know.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "devtasks:migrations")
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise LedgerError(
            f"the ledger's schema is at revision {current!r}, and this version of devtasks knows none after {HEAD!r}; "
            "upgrade devtasks, or give DEVTASKS_DATABASE_URL a database of its own"
        )
    command.upgrade(config, "head")
