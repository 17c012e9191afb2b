"""Model versions, aliases with history, approvals and cards."""
