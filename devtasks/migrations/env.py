"""What Alembic runs for each upgrade: the versions, on the connection and in the transaction `upgrade` was given."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
