"""A pytest plugin: of each parametrised test, the first and the last set of parameters.

Enough to learn whether interfaces hold, of old libraries or another Python; whether numbers do, other sessions ask.
"""

import itertools

import pytest

__all__ = ["pytest_collection_modifyitems"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is between; after markers have chosen."""
    kept: list[pytest.Item] = []
    for _, group in itertools.groupby(items, key=lambda item: (item.parent, getattr(item, "originalname", item.name))):
        first, *others = group
        kept += [first, *others[-1:]]
    chosen = set(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = kept
