import pytest
from gptoss_model.sharding.recipes import ACCELERATORS, RECIPES

ROOM = 0.9  # of the memory; the rest is for what a step computes


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.model}-{recipe.machine}-{recipe.rules}")
def test_recipe_fits_its_machine(recipe):
    assert recipe.share < ROOM


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.model}-{recipe.machine}-{recipe.rules}")
def test_mesh_has_the_devices_of_its_machine(recipe):
    count, times, _ = recipe.machine.partition(" × ")
    if times:
        assert recipe.devices == int(count)
        return
    version, _, number = recipe.machine.partition("-")
    cores = 2 if version in ("v4", "v5p") else 1  # of a chip; the name of a slice counts them
    assert version == recipe.accelerator
    assert recipe.devices == int(number) // cores


def test_every_accelerator_has_a_recipe():
    assert {recipe.accelerator for recipe in RECIPES} == set(ACCELERATORS)
