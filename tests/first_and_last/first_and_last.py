"""A pytest plugin: of each parametrised test, the first and the last set of parameters, and none that is of numbers.

Enough to learn whether interfaces hold, of old libraries or another Python; whether numbers do, other sessions ask.
"""

import itertools

import pytest

__all__ = ["pytest_collection_modifyitems"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is between; after markers have chosen."""
    kept: list[pytest.Item] = []
    others = [item for item in items if not item.get_closest_marker("numbers")]
    for _, group in itertools.groupby(others, key=lambda item: (item.parent, getattr(item, "originalname", item.name))):
        first, *more = group
        kept += [first, *more[-1:]]
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept
