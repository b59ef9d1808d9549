"""The words of the worker: events, ids, deadlines, outcomes, errors. Pure; imports nothing of ours."""
