"""The durable log between a socket and memory: its port, segments, and which events are complete."""
