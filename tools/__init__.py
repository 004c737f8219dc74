"""Scripts that a developer or a pipeline runs now and then."""
