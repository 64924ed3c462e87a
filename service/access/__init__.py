"""Who calls, and how much is worked on at once: origins, tenants, tickets, admission."""
