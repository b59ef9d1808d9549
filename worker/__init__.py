"""The worker that never loses a WhatsApp event.

The way of an event: gateways → ingest → journal → event_buffer → event_integration → a tenant's webhook. `docs/architecture.md` is the map.
"""
