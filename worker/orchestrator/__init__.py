"""Which instance's session runs in this worker: planned from what is owned and wanted, paced so that nothing connects at once."""
