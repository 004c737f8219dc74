"""The synthetic end user of the sample data and of the printed commands."""

USER = 20012345
PARTY = 50002108
"""The first of the parties that the user represents by `register.json`, a person."""
