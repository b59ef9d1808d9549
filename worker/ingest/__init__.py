"""From a gateway's push to the journal: the door, the handler with all its answers, and the segment writer."""
