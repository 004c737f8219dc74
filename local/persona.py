"""The synthetic end user of the sample data and of the printed commands."""

USER = 20012345
PARTY = 50002108
"""The party that the user represents, a person in `register.json`."""
