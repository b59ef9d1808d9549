"""Several processes on one machine (`run --processes N`): a parent that only supervises, and what its children know of it."""
