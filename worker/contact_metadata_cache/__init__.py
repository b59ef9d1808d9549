"""The contact_metadata_cache: what is known of a contact's picture and name. Never in the way of an event."""
