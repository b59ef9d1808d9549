"""What a person asks of the worker besides running it: `check` and `simulate`. They print, and answer an exit code."""
