"""Scripts that developers, operators and pipelines run."""
