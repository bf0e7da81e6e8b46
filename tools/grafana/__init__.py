"""Grafana's dashboards as code: what whoever is paged asks, one module for each dashboard."""
