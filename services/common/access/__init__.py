"""Who may do what: roles, the one table of rules, and what services know of models' owners."""
