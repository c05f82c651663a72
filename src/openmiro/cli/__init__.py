"""The command line: one thin file per command group. Heavy packages are imported inside the commands."""
