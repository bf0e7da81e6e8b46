"""How a service tells people: letters wait in its database and leave for webhooks, Slack, PagerDuty and mail."""
