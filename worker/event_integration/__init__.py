"""From the event_buffer to the tenants' webhooks: routing, signing, one attempt under a deadline, its outcome, retries."""
