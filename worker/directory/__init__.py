"""The directory: what tenants, instances and webhooks were registered at run time, in the store, seen by all workers."""
