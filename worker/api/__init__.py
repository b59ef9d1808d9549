"""What the worker shows of itself over HTTP: the server, health, the dashboard."""
