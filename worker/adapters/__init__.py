"""The doors to the outside: each translates one foreign thing into a port or a value of ours."""
