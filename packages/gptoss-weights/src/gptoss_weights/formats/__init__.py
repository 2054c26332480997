"""How each layout spells the canonical parameters on disk, one file a layout."""
