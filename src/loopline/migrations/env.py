"""What Alembic runs: the revisions, on the connection that `upgrade` was given.

The tables themselves are not imported here: a revision is a fixed text, whatever has become of the tables since.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get(
        "metadata"
    ),  # given where a revision is written, not where one is run
    render_as_batch=True,
)
context.run_migrations()
