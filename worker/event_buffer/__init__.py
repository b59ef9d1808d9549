"""The bounded memory between the journal and the webhooks: a lane per webhook, and what must leave when one does not keep up."""
