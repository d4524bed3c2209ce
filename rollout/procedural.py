"""Rows that reasoning-gym draws: row i of a task comes from seed + i."""

import json
from collections.abc import Iterator

from rollout.config import SourceConfig
from rollout.sources import DataError, Row


def reasoning_gym_rows(name: str, source: SourceConfig) -> Iterator[Row]:
    """Rows `first_row` to `first_row + rows` of the task, their fields those of reasoning-gym's entry."""
    # Imported here because its 106 tasks take a second that runs on files need not spend.
    import reasoning_gym

    assert source.task is not None
    assert source.rows is not None
    size = source.first_row + source.rows
    try:
        dataset = reasoning_gym.create_dataset(source.task, size=size, seed=source.seed, **source.parameters)
    except (ValueError, TypeError, AssertionError) as error:
        raise DataError(f"{name}: reasoning-gym refuses {source.task} with {source.parameters}: {error}.") from error
    for number in range(source.first_row, size):
        where = f"{name}: row {number} of reasoning-gym's {source.task}"
        try:
            # Tuples become lists here, so that the gold is the same before and after it was stored.
            entry = json.loads(json.dumps(dataset[number]))
        except TypeError as error:
            raise DataError(f"{where} is not JSON: {error}.") from error
        yield Row(number, where, entry)
