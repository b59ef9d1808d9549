"""Sessions: one connection per instance that reads a gateway's stream, journals what it reads, and then sends the receipts it is owed."""
