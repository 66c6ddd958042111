"""The checks of `chorus_store.validation`, by what they look at."""
