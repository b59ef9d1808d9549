"""Gateways that do not exist: their REST side over sockets, their events, their moods. For tests, the demo and `simulate`."""
