"""Who owns which shard, proved by a fenced lease in Redis; who else is alive."""
